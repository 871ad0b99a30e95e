#include "engine/config/config_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr int kMaxDots = 16;  ///< per line, outside strings and comments
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

/// The index of the quote that closes the string opened at line[begin]; the line's length if there is none.
size_t end_of_string(std::string_view line, size_t begin) {
    const char quote = line[begin];
    for (size_t i = begin + 1; i < line.size(); ++i) {
        if (line[i] == quote) return i;
        if (line[i] == '\\' && quote == '"') ++i;
    }
    return line.size();
}

void check_characters(std::string_view line, const std::string& place) {
    int dots = 0;
    for (size_t i = 0; i < line.size() && line[i] != '#'; ++i) {
        const char c = line[i];
        const auto byte = static_cast<unsigned char>(c);
        if (c == '"' || c == '\'') {
            if (line.substr(i, 3) == std::string(3, c))
                fail(ExitCode::kUsage, "{}: expected text on one line, in single or double quotes", place);
            i = end_of_string(line, i);
        } else if (byte >= 0x7f || (byte < 0x20 && c != '\t' && c != '\r')) {
            fail(ExitCode::kUsage,
                 "{}: unexpected character at column {}: expected plain ASCII outside quotes", place, i + 1);
        } else if (c == '.' && ++dots > kMaxDots) {
            fail(ExitCode::kUsage, "{}: expected at most {} dots", place, kMaxDots);
        }
    }
}

void check_header(std::string_view line, const std::string& place) {
    const auto skip_blanks = [&](size_t at) {
        return std::min(line.find_first_not_of(" \t", at), line.size());
    };
    size_t at = skip_blanks(0);
    if (at == line.size() || line[at] != '[') return;
    at = skip_blanks(at + 1);
    if (at < line.size() && line[at] == '[') at = skip_blanks(at + 1);
    const char first = at < line.size() ? line[at] : '\n';
    const bool name = std::isalnum(static_cast<unsigned char>(first)) ||
                      std::string_view("_-\"'").find(first) != std::string_view::npos;
    if (!name)
        fail(ExitCode::kUsage, "{}: expected a section's name after the bracket, as in [train]", place);
}

}  // namespace

void check_recipe_text(const std::string& text, const std::string& where) {
    if (text.size() > kMaxRecipeBytes)
        fail(ExitCode::kUsage, "{}: expected a recipe of at most {} bytes", where, kMaxRecipeBytes);
    const bool marked = text.compare(0, kByteOrderMark.size(), kByteOrderMark) == 0;
    std::istringstream lines(marked ? text.substr(kByteOrderMark.size()) : text);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        const std::string place = fmt::format("{}:{}", where, number);
        check_characters(line, place);
        check_header(line, place);
    }
}

}  // namespace pastur
