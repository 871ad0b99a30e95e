#include "engine/train/run_folder.h"

#include <nlohmann/json.hpp>

#include "data/output.h"
#include "data/files.h"
#include "engine/model/recipe.h"
#include "engine/train/environment.h"
#include "kernels/base/error.h"

namespace pastur {

void check_unused(const std::filesystem::path& folder) {
    if (std::filesystem::exists(folder / "metrics.jsonl"))
        fail(ExitCode::kUsage, "{} already holds a run: give --resume to go on with it, or another --run",
             folder.string());
}

std::vector<std::string> describe_run(const std::filesystem::path& folder, const Config& config,
                                      const nlohmann::json& environment, bool resumed) {
    make_folders(folder);
    std::vector<std::string> differences;
    if (resumed) differences = compare_environments(read_environment(folder / "env.json"), environment);
    write_file_atomically(folder / "config.toml", to_toml(config));
    write_environment(folder / "env.json", environment);
    return differences;
}

}  // namespace pastur
