#include "engine/memory_plan.h"

#include "engine/batch.h"

namespace pastur {
namespace {
double to_mib(int64_t bytes) {
    return static_cast<double>(bytes) / (1 << 20);
}
}  // namespace

int64_t MemoryPlan::total() const {
    int64_t bytes = 0;
    for (const Entry& entry : entries) bytes += entry.bytes;
    return bytes;
}

std::string MemoryPlan::describe(const MemoryInfo& memory) const {
    std::string text;
    for (const Entry& entry : entries)
        text += fmt::format("  {:<24}{:>12.1f} MiB\n", entry.name, to_mib(entry.bytes));
    text += fmt::format("  {:<24}{:>12.1f} MiB of {:.1f} free\n", "total", to_mib(total()),
                        to_mib(memory.free_bytes));
    return text;
}

void MemoryPlan::check_fits(const MemoryInfo& memory) const {
    if (total() <= memory.free_bytes) return;
    fail(ExitCode::kNoDevice,
         "not enough memory: {:.0f} MiB needed, {:.0f} MiB free (of {:.0f}); lower train.micro_batch, "
         "data.seq_len or "
         "the model's size, or set train.recompute = \"cheap\"",
         to_mib(total()), to_mib(memory.free_bytes), to_mib(memory.total_bytes));
}

MemoryPlan plan_memory(Context& ctx, Model& model, const AdamW* optimizer) {
    const Parameters& params = model.params();
    const Planner activations = model.measure(ctx);
    MemoryPlan plan;
    plan.entries.push_back({"master weights (fp32)", params.master_bytes()});
    if (params.compute_bytes() > 0) plan.entries.push_back({"weights (bf16)", params.compute_bytes()});
    if (optimizer) {
        plan.entries.push_back({"gradients (fp32)", params.master_bytes()});
        plan.entries.push_back({optimizer->owns_all() ? "Adam moments (fp32)" : "Adam moments, own parts",
                                optimizer->state_bytes()});
    }
    plan.entries.push_back({"activations", activations.kept_bytes()});
    plan.entries.push_back({"temporaries", activations.shared_bytes()});
    plan.entries.push_back({"scratch", activations.scratch_bytes()});
    plan.entries.push_back({"token batch", DeviceBatch::bytes(model.shape())});
    return plan;
}

}  // namespace pastur
