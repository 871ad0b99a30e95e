#pragma once
// What a run will take, said before it is taken.
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/optimizer.h"

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
    /// Throws (kNoDevice) with needed, free and what to lower, when the plan does not fit.
    void check_fits(const MemoryInfo& memory) const;
};

/// optimizer: null when only evaluating.
MemoryPlan plan_memory(Context& ctx, Model& model, const AdamW* optimizer);

}  // namespace pastur
