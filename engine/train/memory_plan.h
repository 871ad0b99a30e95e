#pragma once
// Memory that a run will use, computed before it is allocated.
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "engine/train/optimizer/optimizer.h"

namespace pastur {

struct MemoryPlan {
    struct Entry {
        std::string name;
        int64_t bytes;
    };
    std::vector<Entry> entries;
    int64_t total() const;
    /// One line per entry, and the total next to the free memory of the device.
    std::string describe(const MemoryInfo& memory) const;
    /// Throws (kNoDevice) if the plan of `model` does not fit: needed and free memory, and what to set or to
    /// lower.
    void check_fits(const MemoryInfo& memory, Context& ctx, const Model& model) const;
    /// If train.recompute is "auto", sets the model's level and the plan's activations to the first level
    /// that fits on the rank with the least memory, because the slowest rank determines the speed of all.
    /// Every rank must call it before any rank allocates.
    void settle_recompute(const MemoryInfo& memory, Context& ctx, Comm& comm, Model& model);
    /// total() with these activations instead.
    int64_t total_with(const Planner& activations) const;
};

/// The plan of a model and its optimizer; null for evaluation.
MemoryPlan plan_memory(Context& ctx, Model& model, const Optimizer* optimizer);

/// Memory and cost of a level of train.recompute.
struct RecomputeChoice {
    Recompute level;
    Planner activations;           ///< measured
    double extra_flops_per_token;  ///< beyond the model's own
};
/// All levels for this model, in order of falling memory and rising FLOPs.
std::vector<RecomputeChoice> recompute_choices(Context& ctx, const Model& model);

}  // namespace pastur
