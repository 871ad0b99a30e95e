#include "data/tokenizer/byte_characters.h"

#include <array>

#include "data/corpus/utf8.h"

namespace pastur {
namespace {

constexpr bool stands_for_itself(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

struct Tables {
    std::array<uint16_t, 256> character{};
    std::array<int16_t, 0x144> byte{};
};

constexpr Tables make_tables() {
    Tables tables;
    for (int16_t& byte : tables.byte) byte = -1;
    uint16_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
        const uint16_t character = stands_for_itself(byte) ? static_cast<uint16_t>(byte) : next++;
        tables.character[static_cast<size_t>(byte)] = character;
        tables.byte[character] = static_cast<int16_t>(byte);
    }
    return tables;
}
constexpr Tables kTables = make_tables();

}  // namespace

std::string character_of_byte(uint8_t byte) {
    std::string text;
    append_utf8(text, kTables.character[byte]);
    return text;
}

std::optional<std::string> bytes_of_characters(std::string_view text) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
        const uint8_t lead = static_cast<uint8_t>(text[i]);
        size_t character = lead;
        if (lead >= 0xe0) return std::nullopt;  // beyond U+07FF
        if (lead >= 0xc0) character = (lead & 0x1fu) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3fu);
        if (character >= kTables.byte.size() || kTables.byte[character] < 0) return std::nullopt;
        bytes += static_cast<char>(kTables.byte[character]);
    }
    return bytes;
}

}  // namespace pastur
