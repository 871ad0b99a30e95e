#include "engine/train/run_folder.h"

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/json_text.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"
#include "engine/train/training_data.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr const char* kEnvironmentFile = "env.json";
constexpr int64_t kMostBytes = 1 << 20;

}  // namespace

bool is_run_folder(const std::filesystem::path& folder) {
    if (!path_exists(folder / kEnvironmentFile)) return false;
    const nlohmann::json environment = parse_json(read_file(folder / kEnvironmentFile, kMostBytes));
    return environment.is_object() && environment.contains("git_revision");
}

void check_run_folder(const std::filesystem::path& folder, bool resume) {
    if (is_run_folder(folder)) {
        if (!resume && path_exists(folder / "metrics.jsonl"))
            fail(ExitCode::kUsage,
                 "give --resume to continue the run in {}, or choose another folder with --run",
                 folder.string());
        return;
    }
    for (const char* name :
         {kEnvironmentFile, kConfigFile, "metrics.jsonl", "report.html", "spectra", "checkpoints"})
        if (path_exists(folder / name))
            fail(ExitCode::kUsage,
                 "choose another run folder with --run: {} does not belong to a run and would be overwritten",
                 (folder / name).string());
}

Config placed_config(Config config, const std::filesystem::path& folder) {
    const auto absolute = [](const std::string& path) {
        return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
    };
    config = with_absolute_data(std::move(config));
    config.train.init_from = absolute(config.train.init_from);
    config.run.dir = absolute(folder.string());
    return config;
}

std::vector<std::string> describe_run(const std::filesystem::path& folder, const Config& config,
                                      const nlohmann::json& environment, bool resumed) {
    make_folders(folder);
    std::vector<std::string> differences;
    if (resumed) differences = compare_environments(read_environment(folder / kEnvironmentFile), environment);
    // Written first, because it marks the other files as those of a run.
    write_environment(folder / kEnvironmentFile, environment);
    write_file_atomically(folder / kConfigFile, to_toml(placed_config(config, folder)));
    return differences;
}

}  // namespace pastur
