#pragma once
// How long a step takes on R ranks, by the alpha-beta model (Hockney 1994) of the exchange that GradientSync
// makes. Its formula is printed with its numbers: see kScalingFormula.
#include <vector>

#include "engine/config/config.h"
#include "engine/train/gradient_buckets.h"

namespace pastur {

/// What the model is told of a machine.
struct Links {
    double alpha_s;             ///< a message between two ranks, however short
    double bytes_per_s;         ///< of one rank, each way, among `node` ranks of a host
    double bytes_per_s_beyond;  ///< and between hosts
    int node;                   ///< ranks a host
};

extern const char* const kScalingFormula;

struct StepTime {
    double compute_s;  ///< forward and backward of all micro-batches, and the update
    double exposed_s;  ///< of the exchange, what backward does not hide
    double total() const { return compute_s + exposed_s; }
    /// Of R times the speed of one rank with the same work.
    double efficiency() const { return compute_s / total(); }
};

/// table is laid out for `ranks`; compute_s: of one rank's `micro_batches`, without any exchange.
StepTime predict_step(const TrainConfig& config, const ParamTable& table, const Links& links, int ranks,
                      int64_t micro_batches, double compute_s);

}  // namespace pastur
