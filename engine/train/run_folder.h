#pragma once
// The folder of one run: config.toml, env.json, metrics.jsonl, checkpoints/. Only the root rank writes.
#include <chrono>
#include <filesystem>
#include <memory>

#include "engine/io/logger.h"
#include "engine/model/measure.h"
#include "engine/ranks/comm.h"
#include "engine/spectra/monitor.h"
#include "engine/train/checkpoint_writer.h"
#include "engine/train/evaluate.h"
#include "engine/train/optimizer.h"
#include "engine/train/train_state.h"

namespace pastur {

class RunFolder {
  public:
    /// Touches no file.
    RunFolder(const std::filesystem::path& path, const Config& config, bool is_root);

    const std::filesystem::path& path() const { return path_; }

    /// Restores the newest intact checkpoint; false when there is none: then the run begins again. Says when
    /// it fell back to an older one.
    bool restore(Context& ctx, Parameters& params, AdamW& optimizer, TrainState& state);

    /// Takes the host memory that checkpoints are written from; before save().
    void allocate(Context& ctx, const Parameters& params, const AdamW& optimizer, const Comm& comm);

    /// Makes the folder and its files, and logs the start. A folder that already holds a run is only accepted
    /// after restore(): throws (kUsage). peak_flops_per_s: of all ranks together, for MFU; 0: unknown.
    void start(Context& ctx, int ranks, bool restored, const TrainState& state, const Model& model,
               double peak_flops_per_s);

    void begin_step();
    /// Counts what `read` takes as time spent waiting for data.
    template <typename Read>
    auto timed_data(Read read) {
        const auto begin = Clock::now();
        auto result = read();
        data_seconds_ += seconds_since(begin);
        return result;
    }
    /// Counts what `measure` takes as time that the step lost to diagnostics.
    template <typename Measure>
    void timed_diagnostics(Measure measure) {
        const auto begin = Clock::now();
        measure();
        diagnostics_seconds_ += seconds_since(begin);
    }
    void log_step(const TrainState& state, double loss, double grad_norm, double lr);
    /// Events to metrics.jsonl and to people, and what went wrong to people.
    void log_spectra(const Monitor::Report& report);
    /// Whether the log has the validation after `step`.
    bool has_validation(int64_t step) const;
    void log_validation(const TrainState& state, const Evaluation& evaluation);
    /// Every rank calls it. Begins a checkpoint, when the one before is written, and logs that one. It is
    /// written beside training; its failure is thrown by a later call of this class. Where moments are
    /// divided over the ranks, each writes its own.
    void save(Context& ctx, Comm& comm, const Parameters& params, const AdamW& optimizer,
              const TrainState& state);
    /// Waits for the checkpoint being written. status: "done", "requeue" or "nonfinite".
    void finish(const TrainState& state, const std::string& status);

  private:
    using Clock = std::chrono::steady_clock;
    std::filesystem::path metrics_path() const { return path_ / "metrics.jsonl"; }
    void write(const nlohmann::ordered_json& event);
    void draw(const std::vector<Scalar>& scalars);
    void sync_logs();
    void log_checkpoint(const std::optional<CheckpointWriter::Written>& written);

    std::filesystem::path path_;
    Config config_;
    bool is_root_;
    bool resuming_ = false;
    CheckpointStore checkpoints_;
    CheckpointWriter writer_;
    std::unique_ptr<MetricsLog> metrics_;
    std::unique_ptr<TensorboardLog> tensorboard_;
    Progress progress_;
    ModelSize size_{};
    double memory_gib_ = 0, peak_flops_per_s_ = 0;

    Clock::time_point step_begin_;
    double data_seconds_ = 0, diagnostics_seconds_ = 0;
    /// Since the last logged step.
    double window_seconds_ = 0, window_data_seconds_ = 0, window_diagnostics_seconds_ = 0;
    int64_t window_steps_ = 0;
};

}  // namespace pastur
