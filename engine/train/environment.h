#pragma once
// env.json of a run folder: everything except the recipe that can change a run's bits or speed.
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "kernels/base/context.h"

namespace pastur {

std::string version();       ///< "0.1.0"
std::string git_revision();  ///< of the configured sources; "unknown" outside a git checkout

/// Lines for --version: the program's version and revision, then the libraries it runs with.
std::string describe_version();

/// Version, revision, host, device, numbers of threads and ranks, versions of the libraries in this process,
/// and the environment variables that control them (NCCL_*, OMP_*, OPENBLAS_*, CUBLAS_*, CUDA_VISIBLE_DEVICES
/// ...).
nlohmann::json describe_environment(Context& ctx, int ranks);

void write_environment(const std::filesystem::path& file, const nlohmann::json& environment);
/// Throws (kMissingInput, kIo, kCorruptData).
nlohmann::json read_environment(const std::filesystem::path& file);

/// One line per difference that may change results: `device: was "NVIDIA H200", is "NVIDIA H100"`. The host's
/// name does not count.
std::vector<std::string> compare_environments(const nlohmann::json& old, const nlohmann::json& now);

}  // namespace pastur
