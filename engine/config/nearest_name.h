#pragma once
// "Did you mean ...?": the closest of a few valid names.
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// Edits (insert, delete, replace, swap neighbours) that turn a into b; letter case does not count.
int edit_distance(std::string_view a, std::string_view b);

/// Edits between two names, but 0 if `name` is what other trainers call the key `candidate`, at most 1 if one begins with the other or the candidate has the initials of the
/// name's words ("learning_rate", "lr"), and at most 2 if they share a word of four letters or more.
int name_distance(std::string_view name, std::string_view candidate);

/// Whether a name at this distance from `candidate` may have been meant for it: one edit, or two fifths of its length.
constexpr bool is_near(int distance, std::string_view candidate) {
    return distance <= 1 || 5 * distance <= 2 * static_cast<int>(candidate.size());
}

/// The candidate with the least name_distance() from `name`; the first one on a tie, empty without candidates.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace pastur
