#pragma once
// The training loop: batches -> forward and backward -> clip and update -> log, validate, checkpoint.
#include <filesystem>
#include <memory>
#include <string>

#include "data/loader.h"
#include "engine/model/batch.h"
#include "engine/ranks/comm.h"
#include "engine/train/checkpoint/train_state.h"
#include "engine/train/step_clock.h"
#include "engine/train/train_step.h"
#include "engine/train/training_setup.h"

namespace pastur {

class Monitor;
class RunCheckpoints;
class RunLog;

class Trainer {
  public:
    /// Opens the data and builds the model; takes no device memory and writes nothing. Throws (kUsage,
    /// kMissingInput, kCorruptData) as its parts do.
    Trainer(const Config& config, Context& ctx, Comm& comm);
    ~Trainer();

    /// What the model is and what it will take, for people.
    std::string describe() const;

    /// Takes the memory, restores (resume) or initialises, and trains to the last step, or until a stop is
    /// requested (SIGINT, SIGTERM, SIGUSR1, --max-time, or a file STOP in the run folder): then a checkpoint
    /// is written and kRequeue returned. What a stop left out after the step, of spectra and validation, is
    /// made up for on resume. Throws (kNoDevice) when the plan does not fit, (kNonFinite), (kIo),
    /// (kCorruptData).
    ExitCode run(const std::filesystem::path& run_dir, bool resume);

  private:
    /// Of a rank's device, for MFU; 0: unknown, and on all ranks but the root.
    double peak_flops_per_s();
    void allocate();
    void start_or_resume(bool resume);
    /// Weights of step 0: random ones, or those of train.init_from.
    void initialise();
    /// Rank 0: makes the run folder, or takes up the one of a resumed run.
    void open_run(bool restored);
    ExitCode train();
    TrainStep::Result train_step(double lr);
    void handle_nonfinite(const TrainStep::Result& result);
    /// The first tensor of a flat buffer (of weights or gradients) that is not finite; empty: none.
    std::string first_nonfinite(Tensor flat);
    std::string diagnose_nonfinite();
    bool agreed(bool here) { return comm_.all_reduce_max(here) != 0; }
    /// Agreed over ranks, after waiting for the data of the step to come: a stop ends the wait.
    bool stop_before_next_step(bool last);
    bool due(int64_t every) const { return every > 0 && state_.step % every == 0; }
    bool validation_due() const;
    /// False, as the next two: a stop came before it was through, so that nothing of it was logged.
    bool validate();
    bool measure_spectra();
    /// Before the first step, or what a stop left out of those before.
    bool catch_up();
    void save_checkpoint();
    ExitCode finish(const std::string& status, ExitCode code);

    Config config_;
    Context& ctx_;
    Comm& comm_;
    int64_t micro_batches_;  ///< a step and rank
    TokenLoader train_data_, val_data_;
    TrainingSetup setup_;
    TrainState state_;
    double peak_flops_per_s_ = 0;
    int64_t planned_bytes_ = 0;

    std::filesystem::path run_dir_;
    std::unique_ptr<RunLog> log_;
    std::unique_ptr<RunCheckpoints> checkpoints_;
    StepClock clock_;
    std::unique_ptr<TrainStep> step_;
    std::unique_ptr<Monitor> monitor_;  ///< null: no diagnostics
    std::unique_ptr<BatchStream> batches_;
};

}  // namespace pastur
