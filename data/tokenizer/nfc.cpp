#include "data/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "data/corpus/utf8.h"

namespace pastur {
namespace {

/// The character at the front of valid UTF-8.
utf8proc_int32_t front_character(std::string_view text, size_t& bytes) {
    utf8proc_int32_t character = 0;
    bytes = static_cast<size_t>(utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                 static_cast<utf8proc_ssize_t>(text.size()), &character));
    return character;
}

/// Whether the character is its own form C and combines with nothing before it.
bool is_inert(utf8proc_int32_t character) {
    if (character < 0x300) return true;
    if (character >= 0x1100 && character < 0x1200) return false;  // parts of Hangul syllables
    const utf8proc_property_t* const property = utf8proc_get_property(character);
    const bool is_mark = property->category == UTF8PROC_CATEGORY_MN ||
                         property->category == UTF8PROC_CATEGORY_MC ||
                         property->category == UTF8PROC_CATEGORY_ME;
    if (is_mark || property->combining_class != 0) return false;
    constexpr utf8proc_int32_t kFirstSyllable = 0xac00, kLastSyllable = 0xd7a3;
    if (character >= kFirstSyllable && character <= kLastSyllable) return true;
    return property->decomp_seqindex == UINT16_MAX;
}

/// Appends the canonical decomposition of `text`, in canonical order.
void decompose(std::string_view text, std::vector<utf8proc_int32_t>& out) {
    while (!text.empty()) {
        size_t bytes = 0;
        const utf8proc_int32_t character = front_character(text, bytes);
        std::array<utf8proc_int32_t, 16> parts;  // no decomposition is longer than 4
        int last_class = 0;
        const utf8proc_ssize_t count =
            utf8proc_decompose_char(character, parts.data(), parts.size(), UTF8PROC_DECOMPOSE, &last_class);
        if (count > 0 && count <= std::ssize(parts))
            out.insert(out.end(), parts.begin(), parts.begin() + count);
        text.remove_prefix(bytes);
    }
    const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
    // Only marks between starters, which are of class 0, change places.
    for (auto begin = out.begin(); begin != out.end();) {
        const auto end = std::find_if(begin, out.end(), [&](auto c) { return combining_class(c) == 0; });
        std::stable_sort(begin, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
        begin = end == out.end() ? end : end + 1;
    }
}

void append_nfc(std::string_view text, std::vector<utf8proc_int32_t>& characters, std::string& out) {
    characters.clear();
    decompose(text, characters);
    const utf8proc_ssize_t count =
        utf8proc_normalize_utf32(characters.data(), std::ssize(characters),
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    for (utf8proc_ssize_t i = 0; i < count; ++i) append_utf8(out, static_cast<uint32_t>(characters[i]));
}

}  // namespace

std::string_view to_nfc(std::string_view text, std::string& scratch) {
    std::vector<utf8proc_int32_t> characters;
    std::string normalised;
    size_t copied = 0;   // bytes of `text` that scratch stands for
    size_t starter = 0;  // where the last inert character begins
    bool changed = false;
    scratch.clear();
    for (size_t at = 0; at < text.size();) {
        if (static_cast<uint8_t>(text[at]) < 0x80) {
            starter = at++;
            continue;
        }
        size_t bytes = 0;
        if (is_inert(front_character(text.substr(at), bytes))) {
            starter = at;
            at += bytes;
            continue;
        }
        // Up to the next inert character, with the one before: it may combine with what follows.
        do at += bytes;
        while (at < text.size() && !is_inert(front_character(text.substr(at), bytes)));
        const std::string_view run = text.substr(starter, at - starter);
        normalised.clear();
        append_nfc(run, characters, normalised);
        if (normalised != run) {
            scratch.append(text.substr(copied, starter - copied)).append(normalised);
            copied = at;
            changed = true;
        }
        starter = at;
    }
    if (!changed) return text;
    scratch.append(text.substr(copied));
    return scratch;
}

}  // namespace pastur
