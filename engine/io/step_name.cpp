#include "engine/io/step_name.h"

#include <fmt/format.h>

#include <charconv>

namespace pastur {

constexpr std::string_view kPrefix = "step_";

std::string step_name(int64_t step) {
    return fmt::format("{}{:08}", kPrefix, step);
}

int64_t step_of_name(std::string_view name) {
    if (!name.starts_with(kPrefix)) return -1;
    int64_t step = -1;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    return error == std::errc() && stop == end && step >= 0 && step_name(step) == name ? step : -1;
}

}  // namespace pastur
