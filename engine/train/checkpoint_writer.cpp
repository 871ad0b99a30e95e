#include "engine/train/checkpoint_writer.h"

#include <thread>

#include "data/files.h"
#include "engine/train/checkpoint.h"
#include "engine/train/optimizer_files.h"

namespace pastur {
namespace {

double milliseconds_since(CheckpointWriter::Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(CheckpointWriter::Clock::now() - begin).count();
}

}  // namespace

/// What a rank writes, on the host, as the model lays it out: moments, and rank 0 the master weights.
struct CheckpointWriter::HostCopy {
    HostCopy(const TrainConfig& config, const Parameters& original, const AdamW& moments, bool with_weights,
             Buffer host)
        : memory(std::move(host)), has_weights(with_weights), params(DType::kF32), optimizer(config, params) {
        params.table() = original.table();
        if (!moments.owns_all()) optimizer.own(moments.owned());
        if (has_weights) params.place(memory.data());
        optimizer.place(memory.data() + (has_weights ? params.master_bytes() : 0));
    }
    void take(Context& device, const Parameters& weights, const AdamW& moments) {
        if (has_weights) begin_download(device, params.flat_master(), weights.flat_master());
        begin_download(device, optimizer.first_moments(), moments.first_moments());
        begin_download(device, optimizer.second_moments(), moments.second_moments());
        synchronize(device);
    }
    Buffer memory;
    bool has_weights;
    Parameters params;
    AdamW optimizer;
};

CheckpointWriter::CheckpointWriter(CheckpointStore& store, const Config& config)
    : store_(store), config_(config) {}

int64_t CheckpointWriter::planned_bytes(const Parameters& params, const AdamW& optimizer, int rank) {
    if (rank > 0 && optimizer.owns_all()) return 0;
    return (rank == 0 ? params.master_bytes() : 0) + optimizer.state_bytes();
}

bool CheckpointWriter::allocate(Context& ctx, const Parameters& params, const AdamW& optimizer, int rank,
                                int ranks) {
    rank_ = rank;
    ranks_ = ranks;
    const int64_t bytes = planned_bytes(params, optimizer, rank);
    if (bytes == 0) return true;
    Buffer memory = allocate_host(ctx, bytes);
    const bool fast = memory.data() != nullptr;
    if (!fast) {
        Context host = make_context(Device::kCpu);
        memory = pastur::allocate(host, bytes);
    }
    copy_ = std::make_unique<HostCopy>(config_.train, params, optimizer, rank == 0, std::move(memory));
    return fast;
}

CheckpointWriter::~CheckpointWriter() {
    abandoned_ = true;
    if (writing_.valid()) writing_.wait();
}

void CheckpointWriter::start(Context& ctx, const Parameters& params, const AdamW& optimizer,
                             const TrainState& state, Clock::time_point begin) {
    PASTUR_CHECK(!writing_.valid(), "checkpoint of step {}: the one before is not drained", state.step);
    PASTUR_CHECK(copy_, "checkpoint of step {}: no memory was taken", state.step);
    copy_->take(ctx, params, optimizer);
    const double blocking_ms = milliseconds_since(begin);
    writing_ = std::async(std::launch::async, [this, state, begin, blocking_ms] {
        const std::filesystem::path path = write(state);
        return Written{state.step, path, blocking_ms, milliseconds_since(begin)};
    });
}

std::filesystem::path CheckpointWriter::write(const TrainState& state) const {
    Context one_thread = CpuContext(1);  // the others are for training
    if (rank_ > 0) {
        const std::filesystem::path folder = store_.temporary_folder(state.step);
        write_moment_parts(folder, one_thread, copy_->params.table(), copy_->optimizer, rank_, state.step);
        return folder;
    }
    const bool divided = !copy_->optimizer.owns_all();
    const auto fill = [&](const std::filesystem::path& folder) {
        write_checkpoint_files(folder, one_thread, config_, copy_->params, copy_->optimizer, state);
        if (divided) wait_for_parts(folder);
    };
    return divided ? store_.complete(state.step, fill) : store_.write(state.step, fill);
}

/// The folder is one that all ranks see, so that a file which has its name says that it is whole: no call of
/// the ranks' communicator, which belongs to training meanwhile.
void CheckpointWriter::wait_for_parts(const std::filesystem::path& folder) const {
    constexpr std::chrono::milliseconds kBetweenLooks(5);
    const Clock::time_point begin = Clock::now();
    for (int rank = 1; rank < ranks_; ++rank) {
        const std::filesystem::path file = moments_file(folder, rank);
        for (; !path_exists(file); std::this_thread::sleep_for(kBetweenLooks)) {
            if (abandoned_) fail(ExitCode::kRankLost, "{}: not waited for any more", file.string());
            if (milliseconds_since(begin) > config_.train.comm_timeout_s * 1e3)
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
