#include "data/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "data/corpus/utf8.h"
#include "data/tokenizer/unicode_additions.h"

namespace pastur {
namespace {

/// The character at the front of valid UTF-8.
utf8proc_int32_t front_character(std::string_view text, size_t& bytes) {
    utf8proc_int32_t character = 0;
    bytes = static_cast<size_t>(utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                 static_cast<utf8proc_ssize_t>(text.size()), &character));
    return character;
}

/// Characters that Unicode 10.0 to 14.0 added and that reorder or combine. The normaliser of Hugging Face tokenizers
/// knows Unicode 9.0, where they do neither.
constexpr struct {
    utf8proc_int32_t first, last;
} kUnknown[] = {
    // clang-format off
    {0x7fd, 0x7fd}, {0x898, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xc3c, 0xc3c}, {0xd3b, 0xd3c}, {0xeba, 0xeba},
    {0x1715, 0x1715}, {0x1abf, 0x1ace}, {0x1df6, 0x1dfa}, {0xa82c, 0xa82c}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
    {0x11839, 0x1183a}, {0x11930, 0x11930}, {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193d, 0x1193e},
    {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
    {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x16ff0, 0x16ff1}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    // clang-format on
};

bool is_unknown(utf8proc_int32_t character) {
    const auto holds = [&](const auto& range) {
        return character >= static_cast<utf8proc_int32_t>(range.first) &&
               character <= static_cast<utf8proc_int32_t>(range.last);
    };
    return std::any_of(std::begin(kUnknown), std::end(kUnknown), holds) ||
           std::any_of(unicode_additions().begin(), unicode_additions().end(), holds);
}

enum class Role {
    kInert,      ///< its own form C; combines with nothing before it
    kBarrier,    ///< combines with nothing at all
    kCombining,  ///< anything else
};

Role role_of(utf8proc_int32_t character) {
    if (character < 0x300) return Role::kInert;
    if (character == 0x11a7) return Role::kBarrier;  // utf8proc would drop it behind a Hangul syllable
    if (character >= 0x1100 && character < 0x1200) return Role::kCombining;  // parts of Hangul syllables
    constexpr utf8proc_int32_t kFirstSyllable = 0xac00, kLastSyllable = 0xd7a3;
    if (character >= kFirstSyllable && character <= kLastSyllable) return Role::kInert;
    const utf8proc_property_t* const property = utf8proc_get_property(character);
    const bool is_mark = property->category == UTF8PROC_CATEGORY_MN ||
                         property->category == UTF8PROC_CATEGORY_MC ||
                         property->category == UTF8PROC_CATEGORY_ME;
    if (!is_mark && property->combining_class == 0 && property->decomp_seqindex == UINT16_MAX)
        return Role::kInert;
    return is_unknown(character) ? Role::kBarrier : Role::kCombining;
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
    size_t starter = 0;  // position of the last character that following ones may combine with
    bool changed = false;
    scratch.clear();
    for (size_t at = 0; at < text.size();) {
        size_t bytes = 1;
        const auto role = [&] {
            if (at == text.size()) return Role::kBarrier;
            return static_cast<uint8_t>(text[at]) < 0x80 ? Role::kInert
                                                         : role_of(front_character(text.substr(at), bytes));
        };
        const Role first = role();
        if (first != Role::kCombining) {
            starter = first == Role::kInert ? at : at + bytes;
            at += bytes;
            continue;
        }
        do at += bytes;
        while (role() == Role::kCombining);
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
