#pragma once
// Manual pages of the commands and of recipes.
#include <string>
#include <vector>

#include "tools/pastur/manual/command_table.h"

namespace pastur {

struct ManPage {
    std::string name;  ///< "pastur-data-prepare"
    int section;
    std::string text;  ///< in the macros of man(7)

    /// "pastur-data-prepare.1"
    std::string file_name() const { return name + "." + std::to_string(section); }
};

/// The page of one command; `program` is the table's root, whose page also lists exit codes and variables.
ManPage command_page(const CommandRow& command, const CommandRow& program);

/// pastur-recipe(5): every key with default, expected values and the variants that read it, and the presets.
ManPage recipe_page();

/// The pages of all commands and pastur-recipe(5).
std::vector<ManPage> man_pages(const CommandRow& program);

}  // namespace pastur
