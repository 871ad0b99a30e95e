#pragma once
// The training loop: batches -> forward and backward -> clip and update -> log, validate, checkpoint.
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/model/batch.h"
#include "engine/ranks/comm.h"
#include "engine/train/checkpoint/train_state.h"
#include "engine/train/data_failure.h"
#include "engine/train/run_owner.h"
#include "engine/train/step_clock.h"
#include "engine/train/train_step.h"
#include "engine/train/training_data.h"
#include "engine/train/training_setup.h"

namespace pastur {

class Monitor;
class Probe;
class RunCheckpoints;
class RunLog;
class StepProfile;

class Trainer {
  public:
    /// Opens the data and builds the model. Allocates no device memory and writes nothing. Throws (kUsage,
    /// kMissingInput, kCorruptData).
    Trainer(const Config& config, Context& ctx, Comm& comm);
    ~Trainer();

    /// Model, data and batch as text for the console.
    std::string describe() const;

    /// Profiles these steps of run(): see StepProfile. Throws (kUsage).
    void profile(int64_t first, int64_t last);

    /// Allocates memory, restores (resume) or initialises, and trains to the last step. If a stop is
    /// requested (SIGINT, SIGTERM, SIGUSR1, --max-time, or a file STOP in the run folder), writes a
    /// checkpoint and returns kRequeue; spectra and validation that the stop skipped are done on resume.
    /// `owner` is rank 0's claim on the run folder; without one, run() claims it before the first look. The claim
    /// lasts as long as the object. Throws (kUsage) if another process uses the folder, (kNoDevice) if the plan
    /// does not fit, (kNonFinite), (kIo), (kCorruptData), and DataFailure on every rank, after a checkpoint, if the
    /// data of a step or of a validation cannot be read on any.
    ExitCode run(const std::filesystem::path& run_dir, bool resume,
                 std::unique_ptr<RunOwner> owner = nullptr);

  private:
    /// Peak rate of a rank's device, for MFU; 0 if unknown and on all ranks but the root.
    double peak_flops_per_s();
    void allocate();
    void start_or_resume(bool resume);
    /// Weights of step 0: random ones, or those of train.init_from.
    void initialise();
    /// Rank 0: creates the run folder, or opens that of a resumed run.
    void open_run(bool restored);
    ExitCode train();
    void end_profiled_step();
    TrainStep::Result train_step(double lr);
    void handle_nonfinite(const TrainStep::Result& result);
    /// The first non-finite tensor of a flat buffer of weights or gradients; empty: none.
    std::string first_nonfinite(Tensor flat);
    std::string diagnose_nonfinite();
    bool agreed(bool here) { return comm_.all_reduce_max(here) != 0; }
    /// Waits for the data of the next step. True if a stop was requested on any rank, which ends the wait, or if
    /// any rank's data cannot be read.
    bool stop_before_next_step(bool last);
    bool due(int64_t every) const { return every > 0 && state_.step % every == 0; }
    bool validation_due() const;
    /// False, as for the next two functions, if a stop or its data interrupted it; nothing was logged then.
    bool validate();
    bool measure_spectra();
    /// What diagnostics have found since the last report. drain: once all of it is durable.
    void report_diagnostics(bool drain);
    /// Measures and validates before the first step, or as skipped by the stop before a resume.
    bool catch_up();
    void save_checkpoint();
    /// The end of a run that stops early, after its checkpoint: returns kRequeue or throws data_failure_.
    ExitCode stop();
    ExitCode finish(const std::string& status, ExitCode code);
    /// Waits for run.hook, for a time that depends on how the run ends, or until a further signal.
    void finish_hooks(ExitCode code);

    Config config_;
    Context& ctx_;
    Comm& comm_;
    int64_t micro_batches_;  ///< per step and rank
    TrainingData data_;
    TrainingSetup setup_;
    TrainState state_;
    double peak_flops_per_s_ = 0;
    int64_t planned_bytes_ = 0;

    std::filesystem::path run_dir_;
    std::unique_ptr<RunOwner> owner_;  ///< on rank 0; destroyed after all members that write to the folder
    std::unique_ptr<RunLog> log_;
    std::unique_ptr<RunCheckpoints> checkpoints_;
    StepClock clock_;
    std::unique_ptr<TrainStep> step_;
    std::unique_ptr<StepProfile> profile_;  ///< null: no --profile-steps
    std::unique_ptr<Monitor> monitor_;      ///< null: no diagnostics of weights
    std::unique_ptr<Probe> probe_;          ///< null: no diagnostics of activations, or another rank than 0
    std::unique_ptr<BatchStream> batches_;
    std::optional<DataFailure> data_failure_;  ///< why the run stops, if not on request
};

}  // namespace pastur
