#include "tools/pastur/recipe_files.h"

#include <algorithm>
#include <system_error>

#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> toml_names(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code none;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, none))
        if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
    std::sort(names.begin(), names.end());
    return names;
}

std::string find_file(const std::string& given, const std::vector<const char*>& folders) {
    std::error_code none;
    if (given.empty() || given.find('/') != std::string::npos || fs::exists(given, none)) return given;
    const fs::path shared = shared_folder();
    const std::string name = given.ends_with(".toml") ? given.substr(0, given.size() - 5) : given;
    std::vector<std::string> names;
    for (const char* folder : folders) {
        const fs::path path = shared / folder / (name + ".toml");
        if (!shared.empty() && fs::is_regular_file(path, none)) return path.string();
        for (std::string& found : toml_names(shared / folder)) names.push_back(std::move(found));
    }
    const std::string nearest = nearest_name(name, names);
    const bool near = !nearest.empty() && is_near(edit_distance(name, nearest), nearest);
    fail(ExitCode::kMissingInput, "cannot open recipe {}: No such file or directory{}", given,
         near            ? "; did you mean " + nearest + "?"
         : names.empty() ? ""
                         : " (`pastur help --recipes` lists those that come with the program)");
}

}  // namespace

fs::path shared_folder() {
    std::error_code none;
    const fs::path program = fs::read_symlink("/proc/self/exe", none).parent_path();
    for (const char* folder : {"share/pastur", "tools"}) {
        const fs::path path = program.parent_path() / folder;
        if (fs::is_directory(path / "recipes", none)) return path;
    }
    return {};
}

std::vector<std::string> recipe_names() {
    const fs::path shared = shared_folder();
    return shared.empty() ? std::vector<std::string>() : toml_names(shared / "recipes");
}

std::string find_recipe(const std::string& given) {
    return find_file(given, {"recipes"});
}

std::string find_design(const std::string& given) {
    return find_file(given, {"study", "recipes"});
}

}  // namespace pastur
