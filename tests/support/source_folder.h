#pragma once
// Paths of the repository's files that tests read: recipes, scripts and golden files.
#include <cstdlib>
#include <filesystem>
#include <string>

namespace pastur::test {

/// The folder that the tests were built from, or $PASTUR_SOURCE_DIR, which a bundle sets on another machine.
inline std::filesystem::path source_folder() {
    const char* moved = std::getenv("PASTUR_SOURCE_DIR");
    return moved ? moved : PASTUR_SOURCE_DIR;
}

/// A file of the repository, e.g. source_file("tools/recipes/130m-mha.toml").
inline std::string source_file(const std::string& name) {
    return (source_folder() / name).string();
}

}  // namespace pastur::test
