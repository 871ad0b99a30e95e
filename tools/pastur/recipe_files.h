#pragma once
// Recipes and designs that come with the program, by their names.
#include <filesystem>
#include <string>
#include <vector>

namespace pastur {

/// The folder of recipes/ and study/: <prefix>/share/pastur of an installed program, tools/ of the checkout whose build
/// folder holds the program. Empty if there is neither.
std::filesystem::path shared_folder();

/// "130m-mha", ...: the recipes of shared_folder(), sorted.
std::vector<std::string> recipe_names();

/// The path of a recipe: `given` itself if there is such a file or it names a folder, else that of the recipe of this
/// name. Throws (kMissingInput), naming the nearest recipe.
std::string find_recipe(const std::string& given);
/// The path of a recipe or design of a study in the same way.
std::string find_design(const std::string& given);

}  // namespace pastur
