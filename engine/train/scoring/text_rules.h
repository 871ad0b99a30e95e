#pragma once
// Rules for text that evaluations share with Python's strings. All texts are valid UTF-8.
#include <cstdint>
#include <string>
#include <string_view>

namespace pastur {

/// Without white space at both ends: what str.strip() removes.
std::string_view stripped(std::string_view text);
/// Length of the text without the white space at its end.
size_t length_without_space(std::string_view text);
/// str.capitalize(): the first character in upper case, the others in lower case, each by itself.
std::string capitalized(std::string_view text);
/// Runs of characters that are not white space.
int64_t count_words(std::string_view text);
/// Code points.
int64_t count_characters(std::string_view text);

}  // namespace pastur
