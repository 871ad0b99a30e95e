#pragma once
// Throughput of whole training steps relative to the machine's ceilings, and where their time goes. Steps
// read random tokens, because speed does not depend on the text. With data.mask_documents it depends on the lengths of
// documents, so separators are placed in the tokens; FLOPs are counted as without masks.
#include <string>
#include <vector>

#include "engine/bench/bench_diagnostics.h"
#include "engine/bench/bench_probe.h"
#include "engine/config/config.h"
#include "engine/model/model.h"
#include "kernels/base/op_timer.h"

namespace pastur {

/// The device's best rates, measured.
struct Ceilings {
    double flops_per_s;         ///< large GEMM in the compute dtype
    double rested_flops_per_s;  ///< the same GEMM timed by rested_seconds (measure.h); 0 on the CPU
    double bytes_per_s;         ///< large copy, bytes read plus bytes written
    std::string product, copy;  ///< what was measured, e.g. "bf16 8192 x 8192 x 8192"
};
/// On CUDA 8192^3 and 2 GiB; on the CPU 2048^3 and 128 MiB, with all threads.
Ceilings measure_ceilings(Context& ctx, DType dtype);

/// Mean number of tokens of the documents in random tokens, separators included: that of the training documents in the
/// meta.json of data.dir, or kBenchDocument where there is none.
inline constexpr int64_t kBenchDocument = 512;
int64_t bench_document_tokens(const Config& config);

struct BenchOptions {
    int64_t steps = 20;        ///< measured steps
    int64_t warmup = 5;        ///< steps before them
    int64_t apart = 5;         ///< further steps with times by op family; 0: none
    bool diagnostics = false;  ///< also measure the cost of spectra
    double settle = 0;         ///< shortest duration of the warm-up in seconds; more steps are run as needed
};

/// Time of one step by op family; families and other() sum to the step.
struct StepParts {
    double seconds = 0;  ///< of the step, with timers
    OpTotals families{};
    double other() const;  ///< seconds outside ops: launches, gaps, the host
};

struct VariantBench {
    Config config;        ///< resolved, including train.recompute
    std::string kernels;  ///< Model::describe_kernels()
    ModelSize size{};
    int64_t document_tokens = 0;       ///< bench_document_tokens(); 0: data.mask_documents = false
    int64_t tokens = 0;                ///< per step
    std::vector<double> step_seconds;  ///< one per measured step, in order
    std::vector<double> losses;        ///< one per step, including warm-up and steps with timers
    int64_t planned_bytes = 0;         ///< by the memory plan
    int64_t peak_bytes = 0;            ///< of this process: allocated on the device, resident on the CPU
    DiagnosticsCost diagnostics;       ///< of scopes that decompose weights
    std::vector<ScopeCost> scopes;     ///< of these, positions, ov and overlap, each alone
    std::vector<ScopeCost> probe;      ///< of scopes that measure activations, each alone
    StepParts parts;                   ///< the median step with timers; seconds = 0 if there is none

    double median() const;  ///< seconds per step
    double p95() const;
    double tokens_per_s() const;
    double flops_per_s() const;  ///< model FLOPs as ModelSize counts them; recomputation is excluded
};

/// Trains config's model from its initialisation on random tokens with AdamW at a constant train.lr, with the
/// TrainStep that `train` uses. Throws (kNoDevice) if it does not fit, (kNonFinite) if it diverges.
VariantBench bench_variant(Context& ctx, const Config& config, const BenchOptions& options);

}  // namespace pastur
