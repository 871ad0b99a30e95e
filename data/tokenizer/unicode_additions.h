#pragma once
#include <cstdint>
#include <span>

namespace pastur {

/// Characters of one general category, such as "Lu".
struct UnicodeRange {
    uint32_t first, last;
    char category[3];
};

/// Letters, marks, numbers, punctuation and symbols that Unicode 15.0 to 16.0 added. PCRE2 10.42, of Debian 12, knows
/// version 14.0, and the regular expressions of Hugging Face tokenizers know 16.0.
std::span<const UnicodeRange> unicode_additions();

}  // namespace pastur
