#include "kernels/base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

namespace pastur {
namespace {

struct Character {
    uint32_t code;
    size_t bytes;  ///< 0: the text does not begin with a UTF-8 character
};

Character first_character(std::string_view text) {
    const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
    const uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {lead, 0};
    uint32_t code = lead & (0x7fu >> bytes);
    for (size_t i = 1; i < bytes; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {lead, 0};
        code = code << 6 | (byte(i) & 0x3f);
    }
    constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    if (code < kLeast[bytes] || code > 0x10ffff || surrogate) return {lead, 0};
    return {code, bytes};
}

bool steers(uint32_t code) {
    constexpr std::pair<uint32_t, uint32_t> kRanges[] = {
        {0x00, 0x1f},      // C0 controls
        {0x7f, 0x9f},      // DEL and C1 controls
        {0x061c, 0x061c},  // Arabic letter mark
        {0x200b, 0x200f},  // zero widths, direction marks
        {0x2028, 0x202e},  // line and paragraph separators, embeddings and overrides of direction
        {0x2060, 0x206f},  // invisible operators, isolates of direction
        {0xfeff, 0xfeff},  // byte order mark
        {0xfff9, 0xfffb},  // interlinear annotations
    };
    return std::any_of(std::begin(kRanges), std::end(kRanges),
                       [&](const auto& range) { return code >= range.first && code <= range.second; });
}

std::string escape(const Character& character) {
    if (character.bytes == 0) return fmt::format("\\x{:02x}", character.code);
    switch (character.code) {
        case '\n':
            return "\\n";
        case '\r':
            return "\\r";
        case '\t':
            return "\\t";
        default:
            return fmt::format("\\u{:04x}", character.code);
    }
}

}  // namespace

std::string printable(std::string_view text, std::string_view kept) {
    std::string safe;
    safe.reserve(text.size());
    while (!text.empty()) {
        const Character character = first_character(text);
        const size_t bytes = std::max<size_t>(1, character.bytes);
        const bool stays = character.bytes > 0 &&
                           (!steers(character.code) || (bytes == 1 && kept.find(text[0]) != kept.npos));
        safe += stays ? std::string(text.substr(0, bytes)) : escape(character);
        text.remove_prefix(bytes);
    }
    return safe;
}

std::string printable_lines(std::string_view text) {
    return printable(text, "\n\t");
}

}  // namespace pastur
