#include "engine/train/checkpoint/checkpoint_check.h"

#include <set>

#include "engine/io/step_name.h"
#include "engine/model/model.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/optimizer_files.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

void check_damage(const std::vector<FileReport>& files) {
    std::string first;
    size_t damaged = 0;
    for (const FileReport& file : files) {
        if (file.problem.empty()) continue;
        ++damaged;
        if (first.empty()) first = file.problem;
    }
    if (damaged > 0)
        fail(ExitCode::kCorruptData, "{}{}", first,
             damaged == 1 ? "" : fmt::format(" ({} of {} files are damaged)", damaged, files.size()));
}

/// The manifest lists weights, state and the moments of ranks 0 to n, and nothing else but what Hugging Face
/// transformers reads. Checkpoints of earlier versions have nothing of that, and imported ones no moments.
void check_names(const fs::path& folder, const std::vector<FileReport>& files) {
    std::set<std::string> listed;
    for (const FileReport& file : files) listed.insert(file.name);
    const auto take = [&](const std::string& name) { return listed.erase(name) == 1; };
    const auto moments = [](int64_t rank) { return moments_file("", rank).string(); };
    const auto need = [&](const std::string& name) {
        if (!take(name))
            fail(ExitCode::kCorruptData, "{}: expected {} in the list: it is missing",
                 (folder / kManifestName).string(), name);
    };
    need(kModelFile);
    need(kStateFile);
    if (read_checkpoint_state(folder).step > 0 || listed.contains(moments(0))) need(moments(0));
    for (int64_t rank = 1; take(moments(rank)); ++rank) continue;
    for (const std::string_view name : hf_file_names()) take(std::string(name));
    if (!listed.empty())
        fail(ExitCode::kCorruptData, "{}: expected only {}, {} and optimizer.rank0.safetensors to {}",
             (folder / *listed.begin()).string(), kModelFile, kStateFile, moments(1));
}

/// The name of the folder, also if the path ends in a slash or is relative.
std::string name_of(const fs::path& folder) {
    const fs::path path = fs::absolute(folder).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).filename().string();
}

void check_steps(const fs::path& folder, const Config& config, const TrainState& state) {
    const auto refuse = [&](const std::string& what) {
        fail(ExitCode::kCorruptData, "{}: {}", (folder / kStateFile).string(), what);
    };
    const int64_t named = step_of_name(name_of(folder));
    if (named >= 0 && named != state.step)
        refuse(fmt::format("step {}: expected {}, as in the folder's name", state.step, named));
    if (state.step > config.train.steps)
        refuse(fmt::format("step {}: expected at most {}, train.steps of the recipe in {}", state.step,
                           config.train.steps, kModelFile));
    if (state.skipped > state.step)
        refuse(fmt::format("{} skipped steps: expected at most {}", state.skipped, state.step));
    const int64_t heads = config.train.qk_clip > 0 ? config.model.layers * config.model.heads : 0;
    if (state.qk_clipped > 0 && (heads == 0 || (state.qk_clipped - 1) / heads >= state.step))
        refuse(fmt::format("{} heads scaled by train.qk_clip: expected at most {} in each of {} steps",
                           state.qk_clipped, heads, state.step));
    const int64_t per_step = config.train.global_batch * config.data.seq_len;
    if (config.data.packing == Packing::kStream &&
        (state.tokens % per_step != 0 || state.tokens / per_step != state.step))
        refuse(fmt::format("{} tokens: expected {} steps of {}", state.tokens, state.step, per_step));
    // Padding does not count, but every sequence has a token to predict.
    if (state.tokens / config.train.global_batch < state.step ||
        (state.tokens > 0 && (state.tokens - 1) / per_step >= state.step))
        refuse(fmt::format("{} tokens: expected {} steps of {} to {}", state.tokens, state.step,
                           config.train.global_batch, per_step));
}

}  // namespace

CheckedCheckpoint check_checkpoint(const fs::path& folder,
                                   const std::function<void(const FileReport&)>& visit) {
    const std::vector<FileReport> files = inspect_manifest(folder);
    if (visit)
        for (const FileReport& file : files) visit(file);
    check_damage(files);
    check_names(folder, files);
    CheckedCheckpoint checked{read_checkpoint_config(folder), read_checkpoint_state(folder)};
    check_steps(folder, checked.config, checked.state);
    const Model model(checked.config, DType::kF32, {1, checked.config.data.seq_len});
    check_checkpoint_weights(folder, checked.config.train, model.params().table());
    check_moments(folder, checked.config.train, model.params().table(), checked.state.step);
    return checked;
}

}  // namespace pastur
