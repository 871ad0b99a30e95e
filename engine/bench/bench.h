#pragma once
// Throughput of whole training steps against what the machine could do, and where their time goes. Random
// tokens: speed does not depend on what the text says.
#include <string>
#include <vector>

#include "engine/bench/bench_diagnostics.h"
#include "engine/config/config.h"
#include "engine/model/model.h"
#include "kernels/base/op_timer.h"

namespace pastur {

/// What this device does at best, measured on it.
struct Ceilings {
    double flops_per_s;         ///< of a large product in the compute dtype
    double rested_flops_per_s;  ///< the same by rested_seconds (measure.h); 0 on the CPU
    double bytes_per_s;         ///< of a large copy, read and written
    std::string product, copy;  ///< what was measured, e.g. "bf16 8192 x 8192 x 8192"
};
/// CUDA: 8192^3 and 2 GiB; CPU: 2048^3 and 128 MiB, on all its threads.
Ceilings measure_ceilings(Context& ctx, DType dtype);

struct BenchOptions {
    int64_t steps = 20;        ///< measured
    int64_t warmup = 5;        ///< before, and not counted
    int64_t apart = 5;         ///< more steps, taken apart by op family; 0: none
    bool diagnostics = false;  ///< also what measuring spectra costs
    double settle = 0;         ///< seconds that the steps before last at least, by more of them
};

/// One step taken apart: its families and what is left, which sum to its length.
struct StepParts {
    double seconds = 0;  ///< of the step, timers on
    OpTotals families{};
    double other() const;  ///< seconds outside ops: launches, gaps, the host
};

struct VariantBench {
    Config config;        ///< resolved, train.recompute too
    std::string kernels;  ///< as Model::describe_kernels says
    ModelSize size{};
    int64_t tokens = 0;                ///< a step
    std::vector<double> step_seconds;  ///< of every measured step, in order
    std::vector<double> losses;        ///< of every step, warm-up and steps taken apart included
    int64_t planned_bytes = 0;         ///< by the memory plan
    int64_t peak_bytes = 0;  ///< most that was in use: of device memory beyond what the context itself
                             ///< holds, or of this process on the CPU
    DiagnosticsCost diagnostics;
    StepParts parts;  ///< of the median one of the steps taken apart; seconds = 0 without

    double median() const;  ///< seconds a step
    double p95() const;
    double tokens_per_s() const;
    double flops_per_s() const;  ///< model FLOPs: what ModelSize counts, whatever kernels do
};

/// Trains config's model from its initialisation on random tokens with AdamW, at train.lr throughout, by the
/// same TrainStep as `train`. Throws (kNoDevice) when it does not fit, (kNonFinite) when it diverges.
VariantBench bench_variant(Context& ctx, const Config& config, const BenchOptions& options);

}  // namespace pastur
