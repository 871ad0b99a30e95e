#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace pastur {

/// True when the text is well-formed UTF-8 (Unicode table 3-7).
bool is_utf8(std::string_view text);

/// `text` with every maximal ill-formed part replaced by U+FFFD, as the Unicode Standard advises.
std::string repair_utf8(std::string_view text);

/// Appends the UTF-8 of a code point below 0x110000 that is not a surrogate.
void append_utf8(std::string& out, uint32_t code_point);

/// The front of valid UTF-8 text, at most `bytes` bytes of it and no part of a character.
std::string_view utf8_prefix(std::string_view text, size_t bytes);

}  // namespace pastur
