#pragma once
#include "engine/io/temp_folder.h"

namespace pastur::test {

using pastur::TempFolder;

/// Where fsync costs nothing, if there is such a place: for tests that start a program some hundred times.
inline std::filesystem::path folder_in_memory() {
    const std::filesystem::path shared = "/dev/shm";
    return ::access(shared.c_str(), W_OK) == 0 ? shared : std::filesystem::temp_directory_path();
}

}  // namespace pastur::test
