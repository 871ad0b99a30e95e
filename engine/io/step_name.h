#pragma once
// Names of files and folders that belong to one step of a run.
#include <cstdint>
#include <string>
#include <string_view>

namespace pastur {

/// "step_00000100"
std::string step_name(int64_t step);

/// The step of such a name; -1 for any other.
int64_t step_of_name(std::string_view name);

}  // namespace pastur
