#include "engine/train/run_checkpoints.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/io/console.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "kernels/base/printable.h"

namespace pastur {

RunCheckpoints::RunCheckpoints(const std::filesystem::path& folder, const Config& config, int owner)
    : config_(config),
      store_(folder, config.checkpoint.keep, owner),
      writer_(store_, config),
      run_dir_(folder.parent_path()) {}

namespace {

/// Rank 0's value, from 0 on.
int64_t value_of_root(Comm& comm, int64_t value) {
    constexpr int64_t kHalf = int64_t{1} << 31;
    const bool root = comm.is_root();
    const int64_t high = comm.all_reduce_max(root ? static_cast<int>(value / kHalf) : 0);
    const int64_t low = comm.all_reduce_max(root ? static_cast<int>(value % kHalf) : 0);
    return high * kHalf + low;
}

/// Calls `load`, and throws on every rank if it failed on any.
void load_on_every_rank(Comm& comm, const std::function<void()>& load) {
    std::optional<Error> failure;
    try {
        load();
    } catch (const Error& error) {
        failure = error;
    }
    const bool failed = comm.all_reduce_max(failure.has_value()) != 0;
    // A usage error is the same on every rank and ends the job. Other failures may be this rank's alone.
    if (failure && !comm.is_root() && failure->code() != ExitCode::kUsage)
        Console::err().write(fmt::format("pastur: rank {}: {}\n", comm.rank(), failure->what()));
    if (failure) throw Error(*failure);
    if (failed) fail(ExitCode::kCorruptData, "another rank could not load it");
}

}  // namespace

/// The steps that rank 0 lists: another host's view of a shared folder may be older.
std::vector<int64_t> RunCheckpoints::steps_on_root(Comm& comm) const {
    std::vector<int64_t> steps;
    if (comm.is_root())
        for (const CheckpointStore::Checkpoint& checkpoint : store_.list()) steps.push_back(checkpoint.step);
    steps.resize(static_cast<size_t>(value_of_root(comm, static_cast<int64_t>(steps.size()))));
    for (int64_t& step : steps) step = value_of_root(comm, step);
    return steps;
}

void RunCheckpoints::load(const std::filesystem::path& path, Context& ctx, TrainingSetup& setup,
                          TrainState& state, const Say& say) const {
    const auto [before, saved] = check_checkpoint(path);
    if (const std::string growth = check_same_run(before, config_, saved.step); !growth.empty()) say(growth);
    if (before.train.micro_batch != config_.train.micro_batch)
        say(fmt::format(
            "micro-batches were of {} sequences and are of {}: gradients are summed in another order, so "
            "bits may differ",
            before.train.micro_batch, config_.train.micro_batch));
    read_checkpoint_files(path, ctx, setup.params(), setup.optimizer(), state);
}

bool RunCheckpoints::restore(Context& ctx, Comm& comm, TrainingSetup& setup, TrainState& state,
                             const Say& say) {
    if (comm.is_root()) store_.recover();
    std::vector<std::string> messages, warnings;
    std::filesystem::path loaded;
    const auto load_together = [&](const std::filesystem::path& path) {
        messages.clear();
        const Say note = [&](const std::string& text) { messages.push_back(text); };
        load_on_every_rank(comm, [&] { load(path, ctx, setup, state, note); });
        loaded = path;
    };
    const auto step = store_.newest_that_loads(steps_on_root(comm), load_together, warnings);
    for (const std::string& warning : warnings) say(warning);
    for (const std::string& message : messages) say(message);
    if (step)
        say(fmt::format("resuming after step {} from {}", *step, loaded.string()));
    else
        say("no checkpoint to resume from: starting at step 0");
    return step.has_value();
}

void RunCheckpoints::allocate(Context& ctx, TrainingSetup& setup, const Say& say) {
    if (!writer_.allocate(ctx, setup.params(), setup.optimizer(), setup.rank(), setup.ranks()))
        say(fmt::format(
            "training waits longer for each checkpoint: no page-locked memory for its copy ({:.1f} MiB)",
            static_cast<double>(setup.checkpoint_bytes()) / (1 << 20)));
}

void RunCheckpoints::prepare(int64_t resumed, const Say& say) {
    store_.prepare(resumed);
    if (config_.run.hook.empty()) return;
    hook_ = std::make_unique<CheckpointHook>(config_.run.hook, run_dir_, store_);
    say(fmt::format("run.hook runs after each checkpoint, with its output in {}: {}",
                    (run_dir_ / CheckpointHook::kLogFile).string(), printable(config_.run.hook)));
    if (hook_->left_running())
        say(fmt::format(
            "run.hook of step {} still runs, left by a process that was killed: the next one waits for it",
            *hook_->left_running()));
}

void RunCheckpoints::hook_restored(int64_t step) {
    if (hook_) restored_ = step;
}

std::optional<RunCheckpoints::Written> RunCheckpoints::hooked(std::optional<Written> written) {
    if (!hook_ || !written) return written;
    if (written->step == restored_) restored_ = -1;
    hook_->add({written->step, written->path});
    return written;
}

std::vector<CheckpointHook::Finished> RunCheckpoints::poll_hooks() {
    if (!hook_) return {};
    // Not before the first step: a run that stops at once writes the checkpoint of this step again.
    if (restored_ >= 0) hook_->add(store_.at(std::exchange(restored_, -1)));
    return hook_->poll();
}

void RunCheckpoints::finish_hooks(std::chrono::milliseconds limit, const std::function<bool()>& interrupted,
                                  const Say& say) {
    if (!hook_) return;
    if (restored_ >= 0) hook_->add(store_.at(std::exchange(restored_, -1)));
    constexpr std::chrono::seconds kQuietly(1);
    if (!hook_->wait(std::min<std::chrono::milliseconds>(kQuietly, limit), interrupted)) {
        if (const auto step = hook_->pending())
            say(fmt::format("waiting for run.hook of step {}, at most {:.0f} s; Ctrl-C or SIGTERM ends it",
                            *step, std::chrono::duration<double>(limit).count()));
        if (!hook_->wait(limit, interrupted)) hook_->stop();
    }
    store_.tidy();
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
