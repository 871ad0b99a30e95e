#include "engine/train/scoring/text_rules.h"

#include <clocale>
#include <cwctype>
#include <memory>
#include <type_traits>

#include "data/corpus/utf8.h"

namespace pastur {
namespace {

bool is_continuation(char c) {
    return (static_cast<uint8_t>(c) & 0xc0) == 0x80;
}

/// The code point at `at` of valid UTF-8, and its length in bytes.
struct CodePoint {
    uint32_t value;
    size_t length;
};
CodePoint code_point(std::string_view text, size_t at) {
    const auto lead = static_cast<uint8_t>(text[at]);
    size_t length = 1;
    while (length < 4 && at + length < text.size() && is_continuation(text[at + length])) ++length;
    uint32_t value = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t i = 1; i < length; ++i) value = value << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3f);
    return {value, length};
}

/// What Python's str.isspace() accepts.
bool is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

/// The C library's tables of Unicode, whatever the locale of the process.
locale_t unicode() {
    static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    return locale;
}

uint32_t with_case(uint32_t c, bool upper) {
    if (!unicode()) {
        const bool changes = upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        return changes ? c ^ 0x20 : c;
    }
    const auto wide = static_cast<wint_t>(c);
    return static_cast<uint32_t>(upper ? towupper_l(wide, unicode()) : towlower_l(wide, unicode()));
}

}  // namespace

size_t length_without_space(std::string_view text) {
    size_t end = text.size();
    while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && is_continuation(text[begin])) --begin;
        if (!is_space(code_point(text, begin).value)) break;
        end = begin;
    }
    return end;
}

std::string_view stripped(std::string_view text) {
    text = text.substr(0, length_without_space(text));
    while (!text.empty()) {
        const CodePoint first = code_point(text, 0);
        if (!is_space(first.value)) break;
        text.remove_prefix(first.length);
    }
    return text;
}

std::string capitalized(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const CodePoint c = code_point(text, at);
        append_utf8(out, with_case(c.value, at == 0));
        at += c.length;
    }
    return out;
}

int64_t count_words(std::string_view text) {
    int64_t words = 0;
    bool in_word = false;
    for (size_t at = 0; at < text.size();) {
        const CodePoint c = code_point(text, at);
        const bool space = is_space(c.value);
        words += !space && !in_word;
        in_word = !space;
        at += c.length;
    }
    return words;
}

int64_t count_characters(std::string_view text) {
    int64_t characters = 0;
    for (const char c : text) characters += !is_continuation(c);
    return characters;
}

}  // namespace pastur
