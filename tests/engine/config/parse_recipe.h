#pragma once
// Recipes as text, for tests of what is read from them.
#include <initializer_list>
#include <string>
#include <vector>

#include "engine/model/recipe.h"
#include "tests/support/expect_error.h"

namespace pastur::test {

using Overrides = std::vector<Override>;

inline Config parse(const std::string& toml, const Overrides& overrides = {}) {
    return parse_config(toml, "recipe.toml", overrides);
}

/// Expects a usage error whose message has all of `parts`.
inline void expect_usage(const std::string& toml, std::initializer_list<std::string> parts,
                         const Overrides& overrides = {}) {
    SCOPED_TRACE(toml);
    expect_error(ExitCode::kUsage, parts, [&] { parse(toml, overrides); });
}

/// An [attention] section that names a variant.
inline std::string variant(const std::string& name) {
    return "[attention]\nvariant = \"" + name + "\"\n";
}

}  // namespace pastur::test
