#pragma once
#include <cstddef>
#include <string>

namespace pastur {

/// Far more than any recipe needs.
inline constexpr size_t kMaxRecipeBytes = 64 * 1024;

/// Admits only the plain TOML in which recipes are written, before toml++ parses the text. Version 3.3 of
/// toml++ has undefined behaviour for some broken input (a header without a name, `[=`; letters outside ASCII
/// where none may stand, `lr = é`) and recurses once for every dot of a key. Allowed are single-line strings,
/// ASCII outside strings and comments, headers that begin with a name, at most 16 dots per line, and at most
/// kMaxRecipeBytes. Throws (kUsage) with the line.
void check_recipe_text(const std::string& text, const std::string& where);

}  // namespace pastur
