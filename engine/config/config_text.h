#pragma once
#include <cstddef>
#include <string>

namespace pastur {

/// A recipe is a page of text.
inline constexpr size_t kMaxRecipeBytes = 64 * 1024;

/// Admits the plain TOML that recipes are written in, before toml++ sees the text. Version 3.3 leaves some
/// broken input undefined (a header without a name, `[=`; letters outside ASCII where none may stand, `lr =
/// é`) and recurses once for every dot of a key. So: single-line strings, ASCII outside strings and comments,
/// headers that begin with a name, few dots a line, and not more than kMaxRecipeBytes. Throws (kUsage) with
/// the line.
void check_recipe_text(const std::string& text, const std::string& where);

}  // namespace pastur
