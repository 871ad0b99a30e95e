#pragma once
// Readers of a design's TOML. Each fails with the line, the key and what was expected there.
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {

inline std::string place_of(const std::string& where, const toml::node& node) {
    return fmt::format("{}:{}", where, node.source().begin.line);
}

inline const toml::table& table_at(const toml::node& node, const std::string& name,
                                   const std::string& where) {
    if (const toml::table* table = node.as_table()) return *table;
    fail(ExitCode::kUsage, "{}: {}: expected a section, written [{}]", place_of(where, node), name, name);
}

template <typename T>
T value_at(const toml::node& node, const std::string& name, const char* expected, const std::string& where) {
    if (const auto value = node.value_exact<T>()) return *value;
    fail(ExitCode::kUsage, "{}: {}: expected {}", place_of(where, node), name, expected);
}

template <typename T>
std::vector<T> list_at(const toml::node& node, const std::string& name, const char* expected,
                       const std::string& where) {
    const toml::array* array = node.as_array();
    if (!array || array->empty())
        fail(ExitCode::kUsage, "{}: {}: expected a list of {}", place_of(where, node), name, expected);
    std::vector<T> list;
    for (const toml::node& item : *array) list.push_back(value_at<T>(item, name, expected, where));
    return list;
}

/// Throws (kUsage) with the nearest of `keys` for any other key; section empty: the key is a section.
inline void check_key(const std::string& key, const std::vector<std::string>& keys,
                      const std::string& section, const std::string& place) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) return;
    fail(ExitCode::kUsage, "{}: unknown {} \"{}\"{}; did you mean \"{}\"?", place,
         section.empty() ? "section" : "key", key, section.empty() ? "" : " in [" + section + "]",
         nearest_name(key, keys));
}

}  // namespace pastur
