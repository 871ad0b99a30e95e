#pragma once
// "Did you mean ...?": the closest of a few valid names.
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// Edits (insert, delete, replace, swap neighbours) that turn a into b; letter case counts as no edit.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate with the fewest edits from `name` (one that begins with it, or the reverse, counts as one
/// edit), the first of them on a tie; empty without candidates.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace pastur
