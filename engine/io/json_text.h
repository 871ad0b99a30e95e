#pragma once
// JSON from files that may hold anything.
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

namespace pastur {

/// Deeper than any file that Pastur writes. Copying or printing a value takes stack for each level, so a file
/// of some MiB of brackets would crash the program.
inline constexpr int kMaxJsonDepth = 32;

/// Longer than any text that Pastur writes as one value. A value takes up to 30 times the memory of its text.
inline constexpr size_t kMaxJsonBytes = 1 << 20;

/// The value of a text. If it is not JSON, longer than max_bytes or nested deeper than kMaxJsonDepth, the value is a
/// discarded one: is_discarded(), and of no type.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text, size_t max_bytes = kMaxJsonBytes) {
    if (text.size() > max_bytes) return Json(nlohmann::json::value_t::discarded);
    bool deep = false;
    const auto check = [&](int depth, typename Json::parse_event_t, Json&) {
        deep = deep || depth > kMaxJsonDepth;
        return !deep;
    };
    Json value = Json::parse(text.begin(), text.end(), check, /*allow_exceptions=*/false);
    return deep ? Json(nlohmann::json::value_t::discarded) : value;
}

/// The number under `key`; NaN if there is none, or null, as logs have for a number that is not finite.
template <typename Json>
double number_or_nan(const Json& object, std::string_view key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number() ? found->template get<double>()
                                                       : std::numeric_limits<double>::quiet_NaN();
}

/// The integer under `key`; -1 if there is none.
template <typename Json>
int64_t integer_or_minus_one(const Json& object, std::string_view key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->template get<int64_t>() : -1;
}

}  // namespace pastur
