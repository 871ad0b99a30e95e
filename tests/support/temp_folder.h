#pragma once
#include "engine/io/temp_folder.h"

namespace pastur::test {

using pastur::TempFolder;

/// A folder in memory if there is one, because fsync is fast there; for tests that start many programs.
inline std::filesystem::path folder_in_memory() {
    const std::filesystem::path shared = "/dev/shm";
    return ::access(shared.c_str(), W_OK) == 0 ? shared : std::filesystem::temp_directory_path();
}

}  // namespace pastur::test
