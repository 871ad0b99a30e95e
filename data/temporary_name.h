#pragma once
// Names of temporary files and folders: siblings of the output that they become. Only names with the marker
// ".pastur-partial-" and 16 random hexadecimal digits count as temporary, so a user's file is never taken for one.
#include <filesystem>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

/// A random name next to `output`: <file name>.pastur-partial-<16 hexadecimal digits>.
std::filesystem::path temporary_name(const std::filesystem::path& output);

/// The temporary files and folders of `output` that exist. Empty if the folder cannot be listed: a leftover
/// costs space only.
std::vector<std::filesystem::path> temporaries_of(const std::filesystem::path& output);

/// Locks an open temporary file or folder; the lock ends with the process. False: another process holds it, or
/// `file` was removed meanwhile. True where the file system has no locks.
bool lock_temporary(const FileDescriptor& file);

/// Removes the temporary files of `output` that no process is writing. Does nothing on failure.
void remove_abandoned_files(const std::filesystem::path& output);

}  // namespace pastur
