#pragma once
// Training steps on all ranks of a job against one rank of the same job.
#include <optional>
#include <vector>

#include "engine/bench/bench.h"
#include "engine/bench/scaling_model.h"
#include "engine/ranks/world.h"

namespace pastur {

/// One way of dividing work over the ranks. Times are seconds.
struct ScalingPoint {
    const char* kind = "";  ///< weak: every rank has the sequences of the single one; strong: they share them
    int ranks = 1;
    Config config;                     ///< with the global batch and micro-batch of this point
    std::vector<double> step_seconds;  ///< one per measured step of rank 0
    /// The median step of each rank when nothing is exchanged, neither gradients nor weights, losses or flags.
    std::vector<double> silent_seconds;
    StepTime predicted{};  ///< by the scaling model on the measured links
    /// By the scaling model on the links that `pastur plan` assumes of GPUs; none on CPUs.
    std::optional<StepTime> planned = {};

    double median() const;
    int64_t tokens() const;  ///< per step, over all ranks
    double tokens_per_s() const { return static_cast<double>(tokens()) / median(); }
    /// The largest of silent_seconds: the step of the slowest rank.
    double silent() const;
    /// Communication that computation does not hide: the step minus that of the slowest rank without it. Noise may make
    /// it negative.
    double exposed() const { return median() - silent(); }
};

struct ScalingBench {
    VariantBench alone;  ///< rank 0, while the other ranks wait
    Links links{};       ///< measured
    std::vector<ScalingPoint> points;

    /// Tokens per second over ranks times those of rank 0 alone.
    double efficiency(const ScalingPoint& point) const;
    /// The efficiency that a predicted step of this point gives.
    double efficiency(const ScalingPoint& point, const StepTime& predicted) const;
};

/// Throws (kUsage) if config's global batch does not divide over the ranks.
void check_strong(const Config& config, int ranks);

/// Every rank of `world`, at least two, calls it; the result is rank 0's. config: the recipe of one rank. strong: also
/// with its global batch divided over the ranks. Throws (kUsage) if it does not divide, and as bench_variant().
ScalingBench bench_scaling(Context& ctx, World& world, Comm& comm, const Config& config,
                           const BenchOptions& options, bool strong);

}  // namespace pastur
