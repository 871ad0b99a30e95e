#pragma once
// The folder of one run: whether it is one, and the files that describe the run (config.toml, env.json).
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// The resolved recipe of a run, in its folder.
inline constexpr const char* kConfigFile = "config.toml";

/// Whether a run began in this folder: it contains a run's env.json.
bool is_run_folder(const std::filesystem::path& folder);

/// Throws (kUsage) unless a run may write into the folder: without `resume` it must not contain a run, and if
/// it is not a run folder, it must not contain files that a run would overwrite. Writes nothing.
void check_run_folder(const std::filesystem::path& folder, bool resume);

/// The config with absolute paths and the run in `folder`: it means the same from any working directory.
Config placed_config(Config config, const std::filesystem::path& folder);

/// Creates the folder and writes env.json and config.toml (placed_config). For a restored run returns the
/// differences from its former environment (compare_environments).
std::vector<std::string> describe_run(const std::filesystem::path& folder, const Config& config,
                                      const nlohmann::json& environment, bool resumed);

}  // namespace pastur
