#include "engine/train/checkpoint/checkpoint_writer.h"

#include <thread>

#include "data/files.h"
#include "engine/ranks/awake_clock.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/optimizer_files.h"

namespace pastur {
namespace {

double milliseconds_since(CheckpointWriter::Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(CheckpointWriter::Clock::now() - begin).count();
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointStore& store, const Config& config)
    : store_(store), config_(config) {}

bool CheckpointWriter::allocate(Context& ctx, const Parameters& params, const Optimizer& optimizer, int rank,
                                int ranks) {
    rank_ = rank;
    ranks_ = ranks;
    if (rank == 0) hf_files_ = hf_checkpoint_files(config_);
    const int64_t bytes = CheckpointImage::planned_bytes(params, optimizer, rank);
    if (bytes == 0) return true;
    Buffer memory = allocate_host(ctx, bytes);
    const bool fast = memory.data() != nullptr;
    if (!fast) {
        Context host = make_context(Device::kCpu);
        memory = pastur::allocate(host, bytes);
    }
    image_.emplace(params, optimizer, rank, std::move(memory));
    return fast;
}

CheckpointWriter::~CheckpointWriter() {
    abandoned_ = true;
    if (writing_.valid()) writing_.wait();
}

void CheckpointWriter::start(Context& ctx, const Parameters& params, const Optimizer& optimizer,
                             const TrainState& state, Clock::time_point begin) {
    PASTUR_CHECK(!writing_.valid(), "checkpoint of step {}: the previous one is not drained", state.step);
    PASTUR_CHECK(image_, "checkpoint of step {}: allocate() was not called", state.step);
    image_->take(ctx, params, optimizer);
    const double blocking_ms = milliseconds_since(begin);
    writing_ = std::async(std::launch::async, [this, state, begin, blocking_ms] {
        const std::filesystem::path path = write(state);
        return Written{state.step, path, blocking_ms, milliseconds_since(begin)};
    });
}

std::filesystem::path CheckpointWriter::write(const TrainState& state) const {
    if (rank_ > 0) {
        const std::filesystem::path folder = store_.temporary_folder(state.step);
        write_moment_parts(folder, *image_, rank_, state.step);
        return folder;
    }
    const bool divided = image_->divided();
    const auto fill = [&](const std::filesystem::path& folder) {
        write_checkpoint_files(folder, config_, *image_, state, hf_files_);
        if (divided) wait_for_parts(folder);
    };
    return divided ? store_.complete(state.step, fill) : store_.write(state.step, fill);
}

/// All ranks see the folder, and a file has its final name once it is complete. So this needs no
/// communicator, which training uses meanwhile.
void CheckpointWriter::wait_for_parts(const std::filesystem::path& folder) const {
    constexpr std::chrono::milliseconds kBetweenLooks(5);
    AwakeClock waited(1);
    for (int rank = 1; rank < ranks_; ++rank) {
        const std::filesystem::path file = moments_file(folder, rank);
        for (; !path_exists(file); std::this_thread::sleep_for(kBetweenLooks)) {
            if (abandoned_) fail(ExitCode::kRankLost, "{}: gave up waiting for it", file.string());
            if (waited.read() > config_.train.comm_timeout_s)
                fail(ExitCode::kRankLost, "rank {} did not write {} within {} s", rank, file.string(),
                     config_.train.comm_timeout_s);
        }
    }
}

std::optional<CheckpointWriter::Written> CheckpointWriter::poll() {
    if (!writing_.valid() || writing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        return std::nullopt;
    return writing_.get();
}

std::optional<CheckpointWriter::Written> CheckpointWriter::drain() {
    if (!writing_.valid()) return std::nullopt;
    return writing_.get();
}

}  // namespace pastur
