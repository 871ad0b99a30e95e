#pragma once
// JSON out of files that anybody may have written.
#include <nlohmann/json.hpp>
#include <string_view>

namespace pastur {

/// No file of ours nests as deep. A copy of a value or its text takes stack for each level, so that a file of
/// some MiB of brackets would end the program.
inline constexpr int kMaxJsonDepth = 32;

/// The value of a text; a discarded one (is_discarded(); no type matches) where it is no JSON or nests deeper
/// than kMaxJsonDepth.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text) {
    bool deep = false;
    const auto check = [&](int depth, typename Json::parse_event_t, Json&) {
        deep = deep || depth > kMaxJsonDepth;
        return !deep;
    };
    Json value = Json::parse(text.begin(), text.end(), check, /*allow_exceptions=*/false);
    return deep ? Json(nlohmann::json::value_t::discarded) : value;
}

}  // namespace pastur
