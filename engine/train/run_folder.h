#pragma once
// The folder of one run: whose it is, and what describes the run in it (config.toml, env.json).
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Throws (kUsage) when the folder already holds a run.
void check_unused(const std::filesystem::path& folder);

/// Makes the folder and writes config.toml and env.json. resumed: returns what differs from the environment of the run
/// so far.
std::vector<std::string> describe_run(const std::filesystem::path& folder, const Config& config,
                                      const nlohmann::json& environment, bool resumed);

}  // namespace pastur
