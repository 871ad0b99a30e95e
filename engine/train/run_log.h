#pragma once
// What a run reports: metrics.jsonl, TensorBoard scalars and console lines. Only rank 0 writes.
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/logger.h"
#include "engine/io/tensorboard.h"
#include "engine/spectra/monitor.h"
#include "engine/train/checkpoint/checkpoint_hook.h"
#include "engine/train/checkpoint/checkpoint_writer.h"
#include "engine/train/checkpoint/train_state.h"
#include "engine/train/evaluate.h"
#include "engine/train/gpu_telemetry.h"
#include "engine/train/step_clock.h"
#include "engine/train/train_step.h"

namespace pastur {

class RunLog {
  public:
    /// For a run in `folder` on ctx, which must outlive the log. Accesses no file. On ranks other than 0 the
    /// functions below do nothing.
    RunLog(const std::filesystem::path& folder, const Config& config, Context& ctx, bool is_root);

    /// Writes a separate console line.
    void message(const std::string& text) { progress_.message(text); }

    /// Opens the files in the existing folder. Events after `step` move to metrics.abandoned.jsonl (-1: all
    /// of them); time, speeds, best validation and last checkpoint continue from those that stay.
    void open(int64_t step);

    struct Start {
        const Model& model;
        int ranks;
        bool resumed;
        double peak_flops_per_s;  ///< of all ranks together, for MFU; 0: unknown
        int64_t planned_bytes;    ///< by the memory plan of this rank
    };
    void start(const TrainState& state, const Start& start);
    /// times: per step, over the steps since the last logged one. Returns whether the step was logged.
    bool step(const TrainState& state, const TrainStep::Result& result, double lr,
              const StepClock::Times& times);
    void spectra(const Monitor::Report& report);
    /// set: its name in data.val_sets; empty: the default set. The default set comes last.
    void validation(const TrainState& state, const Evaluation& evaluation, const std::string& set = "");
    /// Whether the log holds the validation after `step`, of the default set.
    bool has_validation(int64_t step) const;
    void checkpoint(const std::optional<CheckpointWriter::Written>& written);
    /// An event for each, and a console line for each that did not succeed.
    void hooks(const std::vector<CheckpointHook::Finished>& finished);
    /// Whether the log holds a hook of the step that succeeded.
    bool has_hook(int64_t step) const { return last_hook_ == step; }
    /// The last event. status: "done", "requeue", "nonfinite" or "data" (it could not be read); with "requeue"
    /// what requested the stop (stop_reason).
    void end(const TrainState& state, const std::string& status, const std::string& reason = "");
    /// Makes durable what was written.
    void sync();

  private:
    using Clock = std::chrono::steady_clock;
    std::filesystem::path metrics_path() const { return folder_ / "metrics.jsonl"; }
    /// Restores the state below from the lines that metrics.jsonl kept. Throws (kIo).
    void recall_events();
    void recall(const nlohmann::json& event);
    void note_validation(int64_t step, double loss);
    /// Seconds that the run has been running, including earlier parts of a resumed run.
    double elapsed_s() const;
    /// Writes the event with `time` and `elapsed_s`.
    void write_timed(nlohmann::ordered_json event);
    void add_gpu(nlohmann::ordered_json& event) const;
    /// The step's largest logit, and the heads scaled since the last logged step.
    void add_qk_clip(nlohmann::ordered_json& event, const TrainState& state, const QkClip::Result& result);
    /// The texts `config` and `notes`, and the run's hyperparameters.
    void describe_to_tensorboard(int64_t step, int64_t parameters, int ranks);
    void say_end(const TrainState& state, double peak_gib);
    void say_stop(const TrainState& state, const std::string& reason);
    void write(const nlohmann::ordered_json& event);
    void draw(const std::vector<Scalar>& scalars);

    std::filesystem::path folder_;
    Config config_;
    Context& ctx_;
    bool is_root_;
    GpuTelemetry gpu_;
    std::unique_ptr<MetricsLog> metrics_;
    std::unique_ptr<TensorboardLog> tensorboard_;
    Progress progress_;
    double flops_per_token_ = 0, peak_flops_per_s_ = 0;

    Clock::time_point begin_ = Clock::now();
    double elapsed_before_s_ = 0;
    std::vector<double> speeds_;                   ///< tokens per second of every logged step
    int64_t logged_step_ = 0, logged_tokens_ = 0;  ///< at the last logged step or the start
    int64_t qk_clipped_ = 0;                       ///< TrainState::qk_clipped at the last logged step
    int64_t last_validation_ = -1, best_step_ = -1;
    int64_t last_hook_ = -1;            ///< step of the last hook that succeeded
    double best_loss_ = NAN;            ///< validation, at best_step_
    std::filesystem::path checkpoint_;  ///< the last one written; empty: none
};

}  // namespace pastur
