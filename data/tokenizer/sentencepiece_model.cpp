#include "data/tokenizer/sentencepiece_model.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "data/corpus/utf8.h"

namespace pastur {
namespace {

constexpr int64_t kMaxOtherFields = 1 << 16;

uint32_t load_word(std::string_view bytes, size_t at) {
    static_assert(std::endian::native == std::endian::little);
    uint32_t word = 0;
    std::memcpy(&word, bytes.data() + at, sizeof word);
    return word;
}

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

/// Calls visit(field number, number, bytes) for each field; number or bytes is empty, by the field's type. False where
/// the message is damaged or has groups, which no model has.
bool for_each_field(std::string_view in,
                    const std::function<void(uint64_t, uint64_t, std::string_view)>& visit) {
    uint64_t key = 0, value = 0;
    while (!in.empty()) {
        if (!read_varint(in, key)) return false;
        std::string_view bytes;
        switch (key & 7) {
            case 0:
                if (!read_varint(in, value)) return false;
                visit(key >> 3, value, {});
                continue;
            case 1:
                value = 8;
                break;
            case 2:
                if (!read_varint(in, value)) return false;
                break;
            case 5:
                value = 4;
                break;
            default:
                return false;
        }
        if (value > in.size()) return false;
        bytes = in.substr(0, value);
        in.remove_prefix(value);
        if ((key & 7) == 5)
            visit(key >> 3, load_word(bytes, 0), {});
        else
            visit(key >> 3, 0, bytes);
    }
    return true;
}

// Fields of ModelProto and of its messages.
constexpr uint64_t kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
constexpr uint64_t kPieceText = 1, kPieceScore = 2;
constexpr uint64_t kCharsmap = 2;

/// What is wrong with a piece; empty: nothing.
std::string piece_problem(std::string_view piece) {
    std::string problem;
    const bool whole = for_each_field(piece, [&](uint64_t field, uint64_t number, std::string_view bytes) {
        if (field == kPieceText && !is_utf8(bytes)) problem = "a piece is not UTF-8";
        if (field == kPieceScore && !std::isfinite(std::bit_cast<float>(static_cast<uint32_t>(number))))
            problem = "the score of a piece is not finite";
    });
    return whole ? problem : "a piece is damaged";
}

/// Whether a normaliser's table can be searched without leaving it. It is the size of a trie of 32-bit units (of the
/// library Darts-clone), the trie, and the replacements that its leaves point to, each with a NUL at its end.
bool is_searchable(std::string_view charsmap) {
    if (charsmap.empty()) return true;
    if (charsmap.size() < 4) return false;
    const size_t bytes = load_word(charsmap, 0);
    if (bytes % 4 != 0 || bytes > charsmap.size() - 4) return false;
    const std::string_view trie = charsmap.substr(4, bytes), replacements = charsmap.substr(4 + bytes);
    if (replacements.empty() || replacements.back() != '\0') return false;
    const size_t units = bytes / 4;
    for (size_t i = 0; i < units; ++i) {
        const uint32_t unit = load_word(trie, 4 * i);
        const bool is_value = unit >> 31 != 0;  // never entered by a character, except the root
        if (is_value && i > 0) continue;
        // The children of a unit are at the XOR of this place and their characters.
        const size_t children = i ^ (size_t{unit >> 10} << ((unit & 512) >> 6));
        if ((children | 255) >= units) return false;
        const bool has_value = (unit >> 8 & 1) != 0;
        if (has_value && (load_word(trie, 4 * children) & 0x7fffffff) >= replacements.size()) return false;
    }
    return units > 0;
}

}  // namespace

std::string sentencepiece_problem(std::string_view serialized) {
    std::string problem;
    int64_t pieces = 0, other_fields = 0;
    const auto count = [&](uint64_t, uint64_t, std::string_view) { ++other_fields; };
    const bool whole = for_each_field(serialized, [&](uint64_t field, uint64_t, std::string_view bytes) {
        if (!problem.empty()) return;
        bool readable = true;
        if (field == kPieces) {
            ++pieces;
            problem = piece_problem(bytes);
        } else if (field == kNormalizer || field == kDenormalizer) {
            readable = for_each_field(bytes, [&](uint64_t inner, uint64_t, std::string_view charsmap) {
                if (inner == kCharsmap && !is_searchable(charsmap))
                    problem = "the table of its normaliser is damaged";
            });
        } else {
            ++other_fields;
            readable = for_each_field(bytes, count);
        }
        if (!readable) problem = "a field is damaged";
        if (pieces > kMaxPieces) problem = fmt::format("more than {} pieces", kMaxPieces);
        if (other_fields > kMaxOtherFields) problem = fmt::format("more than {} fields", kMaxOtherFields);
    });
    return whole || !problem.empty() ? problem : "it is cut short or damaged";
}

SentencePieceSpec read_sentencepiece_spec(std::string_view serialized) {
    SentencePieceSpec spec;
    const auto trainer_field = [&](uint64_t field, uint64_t value, std::string_view) {
        if (field == 24) spec.whitespace_as_suffix = value != 0;
    };
    const auto normalizer_field = [&](uint64_t field, uint64_t value, std::string_view bytes) {
        if (field == kCharsmap) spec.charsmap = !bytes.empty();
        if (field == 3) spec.add_dummy_prefix = value != 0;
        if (field == 4) spec.remove_extra_whitespaces = value != 0;
        if (field == 5) spec.escape_whitespaces = value != 0;
    };
    for_each_field(serialized, [&](uint64_t field, uint64_t, std::string_view bytes) {
        if (field == kTrainer) for_each_field(bytes, trainer_field);
        if (field == kNormalizer) for_each_field(bytes, normalizer_field);
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
