#pragma once
// Time of a step on R ranks by the alpha-beta model (Hockney 1994) of GradientSync's communication.
// kScalingFormula is printed with the numbers.
#include <vector>

#include "engine/config/config.h"
#include "engine/train/optimizer/gradient_buckets.h"

namespace pastur {

/// Parameters of a machine.
struct Links {
    double alpha_s;             ///< latency of a message between two ranks
    double bytes_per_s;         ///< bandwidth of one rank in each direction, within a host of `node` ranks
    double bytes_per_s_beyond;  ///< bandwidth between hosts
    int node;                   ///< ranks per host
};

/// What `pastur plan` assumes of GPUs with NVLink in a host.
inline constexpr Links kAssumedLinks{4e-6, 300e9, 50e9, 8};

extern const char* const kScalingFormula;

/// Time that one rank computes.
struct ComputeTime {
    double
        micro_batches_s;  ///< forward and backward of its micro-batches, and the part of the update that memory bounds
    double muon_s = 0;  ///< Muon's GEMMs for all matrices; they do not depend on the batch
};

struct StepTime {
    double compute_s;  ///< forward and backward of all micro-batches, plus the update
    double exposed_s;  ///< communication that backward does not hide
    double total() const { return compute_s + exposed_s; }
    /// Relative to R times the speed of one rank with the same work.
    double efficiency() const { return compute_s / total(); }
};

/// table: laid out for `ranks`. With zero = 1 ranks divide Muon's matrices.
StepTime predict_step(const TrainConfig& config, const ParamTable& table, const Links& links, int ranks,
                      int64_t micro_batches, const ComputeTime& compute);

}  // namespace pastur
