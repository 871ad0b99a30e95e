#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pastur {

/// The printable character that stands for a byte in the vocabulary of a byte-level tokenizer, as GPT-2 introduced
/// them: printable ASCII and Latin-1 stand for themselves, the other 68 bytes are U+0100 to U+0143 in order.
std::string character_of_byte(uint8_t byte);

/// The bytes for which the characters of `text`, valid UTF-8, stand; none: a character stands for no byte.
std::optional<std::string> bytes_of_characters(std::string_view text);

}  // namespace pastur
