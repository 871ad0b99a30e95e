#include "data/tokenizer/sentencepiece_model.h"

#include <cstdint>
#include <functional>

namespace pastur {
namespace {

// Wire format of protocol buffers: a varint key (field number << 3 | type), then a varint (0), 8 bytes (1),
// a length and bytes (2), or 4 bytes (5).
bool read_varint(std::string_view& in, uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
        const uint8_t byte = static_cast<uint8_t>(in.front());
        in.remove_prefix(1);
        value |= uint64_t{byte & 0x7fu} << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

/// Calls visit(field number, varint, bytes) for each field; varint or bytes is empty, by the field's type.
void for_each_field(std::string_view in,
                    const std::function<void(uint64_t, uint64_t, std::string_view)>& visit) {
    uint64_t key = 0, value = 0;
    while (!in.empty() && read_varint(in, key)) {
        size_t skip = 0;
        switch (key & 7) {
            case 0:
                if (!read_varint(in, value)) return;
                visit(key >> 3, value, {});
                break;
            case 1:
                skip = 8;
                break;
            case 2:
                if (!read_varint(in, value) || value > in.size()) return;
                visit(key >> 3, 0, in.substr(0, value));
                skip = value;
                break;
            case 5:
                skip = 4;
                break;
            default:
                return;
        }
        if (skip > in.size()) return;
        in.remove_prefix(skip);
    }
}

}  // namespace

SentencePieceSpec read_sentencepiece_spec(std::string_view serialized) {
    SentencePieceSpec spec;
    const auto trainer_field = [&](uint64_t field, uint64_t value, std::string_view) {
        if (field == 24) spec.whitespace_as_suffix = value != 0;
    };
    const auto normalizer_field = [&](uint64_t field, uint64_t value, std::string_view bytes) {
        if (field == 2) spec.charsmap = !bytes.empty();
        if (field == 3) spec.add_dummy_prefix = value != 0;
        if (field == 4) spec.remove_extra_whitespaces = value != 0;
        if (field == 5) spec.escape_whitespaces = value != 0;
    };
    for_each_field(serialized, [&](uint64_t field, uint64_t, std::string_view bytes) {
        if (field == 2) for_each_field(bytes, trainer_field);
        if (field == 3) for_each_field(bytes, normalizer_field);
    });
    return spec;
}

std::string sentencepiece_reason(std::string_view message) {
    // "./src/trainer_interface.cc(660) [condition] Vocabulary size too high (20000)."
    const size_t place = message.find(".cc("), condition = message.rfind(']');
    if (place != message.npos)
        message.remove_prefix(condition == message.npos ? message.size() : condition + 1);
    const size_t first = message.find_first_not_of(' ');
    return first == message.npos ? std::string() : std::string(message.substr(first));
}

}  // namespace pastur
