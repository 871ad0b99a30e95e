#include "engine/train/run_checkpoints.h"

#include "engine/train/checkpoint/checkpoint.h"

namespace pastur {

RunCheckpoints::RunCheckpoints(const std::filesystem::path& folder, const Config& config, int owner)
    : config_(config), store_(folder, config.checkpoint.keep, owner), writer_(store_, config) {}

bool RunCheckpoints::restore(Context& ctx, TrainingSetup& setup, TrainState& state, const Say& say) {
    std::vector<std::string> warnings;
    const auto checkpoint = store_.newest_intact(warnings);
    for (const std::string& warning : warnings) say(warning);
    if (!checkpoint) {
        say("no checkpoint to resume from: starting at step 0");
        return false;
    }
    const Config before = read_checkpoint_config(checkpoint->path);
    const int64_t step = read_checkpoint_state(checkpoint->path).step;
    if (const std::string growth = check_same_run(before, config_, step); !growth.empty()) say(growth);
    if (before.train.micro_batch != config_.train.micro_batch)
        say(fmt::format(
            "micro-batches were of {} sequences and are of {}: gradients are summed in another order, so "
            "bits may differ",
            before.train.micro_batch, config_.train.micro_batch));
    read_checkpoint_files(checkpoint->path, ctx, setup.params(), setup.optimizer(), state);
    say(fmt::format("resuming after step {} from {}", state.step, checkpoint->path.string()));
    return true;
}

void RunCheckpoints::allocate(Context& ctx, TrainingSetup& setup, const Say& say) {
    if (!writer_.allocate(ctx, setup.params(), setup.optimizer(), setup.rank(), setup.ranks()))
        say(fmt::format(
            "training waits longer for each checkpoint: no page-locked memory for its copy ({:.1f} MiB)",
            static_cast<double>(setup.checkpoint_bytes()) / (1 << 20)));
}

void RunCheckpoints::save(Context& ctx, Comm& comm, TrainingSetup& setup, const TrainState& state,
                          Clock::time_point begin) {
    const bool divided = !setup.optimizer().owns_all();
    if (!comm.is_root() && !divided) return;
    if (divided) {
        if (comm.is_root()) store_.begin(state.step);
        comm.barrier();  // every rank sees the folder now
    }
    writer_.start(ctx, setup.params(), setup.optimizer(), state, begin);
}

}  // namespace pastur
