#include "engine/memory_plan.h"

#include <algorithm>

#include "engine/batch.h"

namespace pastur {
namespace {
// What recomputing changes of a plan.
constexpr const char* kActivations = "activations";
constexpr const char* kTemporaries = "temporaries";
constexpr const char* kScratch = "scratch";

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

int64_t MemoryPlan::total_with(const Planner& activations) const {
    int64_t bytes = activations.bytes() + activations.scratch_bytes();
    for (const Entry& entry : entries)
        if (entry.name != kActivations && entry.name != kTemporaries && entry.name != kScratch)
            bytes += entry.bytes;
    return bytes;
}

void MemoryPlan::check_fits(const MemoryInfo& memory, Context& ctx, const Model& model) const {
    if (total() <= memory.free_bytes) return;
    const std::vector<RecomputeChoice> choices = recompute_choices(ctx, model);
    const auto fits = [&](const RecomputeChoice& choice) {
        return total_with(choice.activations) <= memory.free_bytes;
    };
    const auto cheapest = std::find_if(choices.begin(), choices.end(), fits);
    const RecomputeChoice& named = cheapest == choices.end() ? choices.back() : *cheapest;
    const std::string way_out =
        cheapest == choices.end() ? fmt::format("train.recompute = \"{}\" would still need {:.0f} MiB: lower",
                                                named.name, to_mib(total_with(named.activations)))
                                  : fmt::format("set train.recompute = \"{}\" ({:.0f} MiB), or lower",
                                                named.name, to_mib(total_with(named.activations)));
    fail(ExitCode::kNoDevice,
         "not enough memory: {:.0f} MiB needed, {:.0f} MiB free (of {:.0f}); {} train.micro_batch, "
         "data.seq_len or the model's size",
         to_mib(total()), to_mib(memory.free_bytes), to_mib(memory.total_bytes), way_out);
}

std::vector<RecomputeChoice> recompute_choices(Context& ctx, const Model& model) {
    std::vector<RecomputeChoice> choices;
    for (const std::string& name : recompute_names()) {
        Config config = model.config();
        config.train.recompute = name;
        // Another model, never allocated: measuring moves a model's tensors.
        Model other(config, model.params().compute_dtype(), model.shape());
        choices.push_back(
            {name, other.measure(ctx), recompute_flops_per_token(config, other.params().table())});
    }
    return choices;
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
    plan.entries.push_back({kActivations, activations.kept_bytes()});
    plan.entries.push_back({kTemporaries, activations.shared_bytes()});
    plan.entries.push_back({kScratch, activations.scratch_bytes()});
    plan.entries.push_back({"token batch", DeviceBatch::bytes(model.shape())});
    return plan;
}

}  // namespace pastur
