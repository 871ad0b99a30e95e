#include "engine/checkpoint_writer.h"

#include "engine/checkpoint.h"

namespace pastur {
namespace {

double milliseconds_since(CheckpointWriter::Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(CheckpointWriter::Clock::now() - begin).count();
}

}  // namespace

/// Master weights and moments as the model lays them out, on the host.
struct CheckpointWriter::HostCopy {
    HostCopy(const TrainConfig& config, const Parameters& original, Buffer host)
        : memory(std::move(host)), params(DType::kF32), optimizer(config, params) {
        params.table() = original.table();
        params.place(memory.data());
        optimizer.place(memory.data() + params.master_bytes());
    }
    void take(Context& device, const Parameters& weights, const AdamW& moments) {
        begin_download(device, params.flat_master(), weights.flat_master());
        begin_download(device, optimizer.first_moments(), moments.first_moments());
        begin_download(device, optimizer.second_moments(), moments.second_moments());
        synchronize(device);
    }
    Buffer memory;
    Parameters params;
    AdamW optimizer;
};

CheckpointWriter::CheckpointWriter(CheckpointStore& store, const Config& config)
    : store_(store), config_(config) {}

bool CheckpointWriter::allocate(Context& ctx, const Parameters& params) {
    Buffer memory = allocate_host(ctx, planned_bytes(params));
    const bool fast = memory.data() != nullptr;
    if (!fast) {
        Context host = make_context(Device::kCpu);
        memory = pastur::allocate(host, planned_bytes(params));
    }
    copy_ = std::make_unique<HostCopy>(config_.train, params, std::move(memory));
    return fast;
}

CheckpointWriter::~CheckpointWriter() {
    if (writing_.valid()) writing_.wait();
}

void CheckpointWriter::start(Context& ctx, const Parameters& params, const AdamW& optimizer,
                             const TrainState& state, Clock::time_point begin) {
    PASTUR_CHECK(!writing_.valid(), "checkpoint of step {}: the one before is not drained", state.step);
    PASTUR_CHECK(copy_, "checkpoint of step {}: no memory was taken", state.step);
    copy_->take(ctx, params, optimizer);
    const double blocking_ms = milliseconds_since(begin);
    writing_ = std::async(std::launch::async, [this, state, begin, blocking_ms] {
        Context one_thread = CpuContext(1);  // the others are for training
        const std::filesystem::path path = store_.write(state.step, [&](const std::filesystem::path& folder) {
            write_checkpoint_files(folder, one_thread, config_, copy_->params, copy_->optimizer, state);
        });
        return Written{state.step, path, blocking_ms, milliseconds_since(begin)};
    });
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
