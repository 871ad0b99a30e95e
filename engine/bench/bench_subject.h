#pragma once
// A model that the benchmark trains: on random tokens, because speed does not depend on the text.
#include <memory>
#include <string>
#include <vector>

#include "engine/bench/bench_diagnostics.h"
#include "engine/bench/bench_probe.h"
#include "engine/ranks/comm.h"
#include "engine/train/train_step.h"
#include "engine/train/training_setup.h"

namespace pastur {

/// Batches generated in advance and handed out in turn; each rank has its own.
class RandomBatches {
  public:
    RandomBatches(const Config& config, const BatchShape& shape, int rank);
    TokenBatch next() { return batches_[next_++ % batches_.size()]; }

  private:
    std::vector<TokenBatch> batches_;
    size_t next_ = 0;
};

/// Training from the initialisation at a constant train.lr, by the TrainStep of `train`. On several ranks every rank
/// has one and calls the same functions.
class BenchSubject {
  public:
    /// comm outlives the subject. Throws (kNoDevice) if the model does not fit.
    BenchSubject(Context& ctx, const Config& config, Comm& comm);

    ModelSize size() const { return setup_.size(); }
    std::string kernels() { return setup_.model().describe_kernels(); }
    Recompute recompute() { return setup_.model().recompute(); }
    const ParamTable& table() const { return setup_.table(); }
    int64_t planned_bytes() const { return planned_bytes_; }
    /// Runs a step and returns its loss, when the device has finished. Throws (kNonFinite) if it diverges.
    double step();

    DiagnosticsCost measure_diagnostics(double step_seconds, std::vector<double>& losses);
    std::vector<ScopeCost> measure_further_scopes(double step_seconds, std::vector<double>& losses);
    std::vector<ScopeCost> measure_probe();

  private:
    Config config_;
    Context& ctx_;
    Comm& comm_;
    TrainingSetup setup_;
    RandomBatches batches_;
    std::unique_ptr<TrainStep> step_;
    int64_t planned_bytes_ = 0, done_ = 0;
};

}  // namespace pastur
