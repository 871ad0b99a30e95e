#pragma once
// What a run reports: metrics.jsonl, TensorBoard scalars and console lines. Only rank 0 writes.
#include <filesystem>
#include <memory>

#include "engine/io/logger.h"
#include "engine/io/tensorboard.h"
#include "engine/spectra/monitor.h"
#include "engine/train/checkpoint_writer.h"
#include "engine/train/evaluate.h"
#include "engine/train/step_clock.h"
#include "engine/train/train_state.h"
#include "engine/train/train_step.h"

namespace pastur {

class RunLog {
  public:
    /// For a run in `folder`; touches no file. On ranks other than 0 every function below does nothing.
    RunLog(const std::filesystem::path& folder, const Config& config, bool is_root);

    /// A console line of its own.
    void message(const std::string& text) { progress_.message(text); }

    /// Opens the files in the existing folder. Events after `step` move to metrics.abandoned.jsonl; -1: all of them.
    void open(int64_t step);

    struct Start {
        const Model& model;
        std::string device;
        int ranks;
        bool resumed;
        double peak_flops_per_s;  ///< of all ranks together, for MFU; 0: unknown
        double memory_gib;
    };
    void start(const TrainState& state, const Start& start);
    /// times: per step, over the steps since the last logged one. Returns whether the step was logged.
    bool step(const TrainState& state, const TrainStep::Result& result, double lr,
              const StepClock::Times& times);
    void spectra(const Monitor::Report& report);
    void validation(const TrainState& state, const Evaluation& evaluation);
    /// Whether the log holds the validation after `step`.
    bool has_validation(int64_t step) const;
    void checkpoint(const std::optional<CheckpointWriter::Written>& written);
    /// status: "done", "requeue" or "nonfinite".
    void end(const TrainState& state, const std::string& status);
    /// What was written is durable.
    void sync();

  private:
    std::filesystem::path metrics_path() const { return folder_ / "metrics.jsonl"; }
    void write(const nlohmann::ordered_json& event);
    void draw(const std::vector<Scalar>& scalars);

    std::filesystem::path folder_;
    Config config_;
    bool is_root_;
    std::unique_ptr<MetricsLog> metrics_;
    std::unique_ptr<TensorboardLog> tensorboard_;
    Progress progress_;
    double flops_per_token_ = 0, peak_flops_per_s_ = 0, memory_gib_ = 0;
};

}  // namespace pastur
