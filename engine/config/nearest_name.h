#pragma once
// "Did you mean ...?": the closest of a few valid names.
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// Edits (insert, delete, replace, swap neighbours) that turn a into b; letter case does not count.
int edit_distance(std::string_view a, std::string_view b);

/// The candidate with the fewest edits from `name`; the first one on a tie, empty without candidates. A
/// candidate that begins with `name`, or the reverse, counts as one edit.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace pastur
