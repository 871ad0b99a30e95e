#pragma once
// JSON from files that may hold anything.
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>

namespace pastur {

/// Deeper than any file that Pastur writes. Copying or printing a value takes stack for each level, so a file
/// of some MiB of brackets would crash the program.
inline constexpr int kMaxJsonDepth = 32;

/// Longer than any text that Pastur writes as one value.
inline constexpr size_t kMaxJsonBytes = 1 << 20;

/// Whether brackets nest at most kMaxJsonDepth deep. A parser that checks it by a callback takes quadratic time: the
/// library searches an array for removed values after each object in it.
inline bool is_shallow(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > kMaxJsonDepth) return false;
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    return true;
}

/// The value of a text. If it is not JSON, longer than max_bytes or nested deeper than kMaxJsonDepth, the value is a
/// discarded one: is_discarded(), and of no type. Linear in time; a value takes up to 30 times its text.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text, size_t max_bytes = kMaxJsonBytes) {
    if (text.size() > max_bytes || !is_shallow(text)) return Json(nlohmann::json::value_t::discarded);
    return Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
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
