#pragma once
// The configuration keys as a table for people: manual page and shell completion.
#include <string>
#include <vector>

namespace pastur {

struct KeyRow {
    std::string section, key;
    std::string description;
    std::string initial;   ///< the default as TOML; empty: the preset has it
    std::string expected;  ///< "a number above 0"
    std::string readers;   ///< "mla-decoupled, mtla": variants that read the key; empty: all of them
    std::vector<std::string> choices;
    bool is_list = false;    ///< several choices, separated by commas
    bool is_folder = false;  ///< the path of a folder

    std::string path() const { return section + "." + key; }
};

/// Every key, in the order of the recipe's sections.
std::vector<KeyRow> key_table();

/// "vocab = 32000, d_model = 768, ...": what a preset sets.
std::string preset_text(const std::string& preset);

}  // namespace pastur
