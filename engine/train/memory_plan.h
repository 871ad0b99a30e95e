#pragma once
// What a run will take, said before it is taken.
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/ranks/comm.h"
#include "engine/train/optimizer.h"

namespace pastur {

struct MemoryPlan {
    struct Entry {
        std::string name;
        int64_t bytes;
    };
    std::vector<Entry> entries;
    int64_t total() const;
    /// One line an entry, and the total against what the device has free.
    std::string describe(const MemoryInfo& memory) const;
    /// Throws (kNoDevice) with needed, free and what to set or to lower, when the plan of `model` does not
    /// fit.
    void check_fits(const MemoryInfo& memory, Context& ctx, const Model& model) const;
    /// Where train.recompute is "auto": the model's and the plan's become the first that fits, on the rank
    /// that has the least memory, as the slowest one sets the pace of all. Every rank calls it, before any
    /// allocates.
    void settle_recompute(const MemoryInfo& memory, Context& ctx, Comm& comm, Model& model);
    /// What it would be with these activations.
    int64_t total_with(const Planner& activations) const;
};

/// optimizer: null when only evaluating.
MemoryPlan plan_memory(Context& ctx, Model& model, const AdamW* optimizer);

/// What a value of train.recompute would take, and cost.
struct RecomputeChoice {
    Recompute level;
    Planner activations;           ///< measured
    double extra_flops_per_token;  ///< beyond the model's
};
/// Every one for this model, each taking less memory and more FLOPs than the one before.
std::vector<RecomputeChoice> recompute_choices(Context& ctx, const Model& model);

}  // namespace pastur
