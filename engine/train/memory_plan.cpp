#include "engine/train/memory_plan.h"

#include <algorithm>

#include "engine/model/batch.h"

namespace pastur {
namespace {
// Entries that depend on train.recompute.
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

void MemoryPlan::settle_recompute(const MemoryInfo& memory, Context& ctx, Comm& comm, Model& model) {
    if (model.config().train.recompute) return;
    const std::vector<RecomputeChoice> choices = recompute_choices(ctx, model);
    std::vector<int64_t> totals;
    for (const RecomputeChoice& choice : choices) totals.push_back(total_with(choice.activations));
    // The ranks of a host share its memory.
    const int64_t free_bytes = is_cuda(ctx) ? memory.free_bytes : memory.free_bytes / comm.ranks_of_host();
    const int level = comm.all_reduce_max(static_cast<int>(first_that_fits(totals, free_bytes)));
    model.set_recompute(static_cast<Recompute>(level));
    const Planner& activations = choices[static_cast<size_t>(level)].activations;
    for (Entry& entry : entries) {
        if (entry.name == kActivations) entry.bytes = activations.kept_bytes();
        if (entry.name == kTemporaries) entry.bytes = activations.shared_bytes();
        if (entry.name == kScratch) entry.bytes = activations.scratch_bytes();
    }
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
                                                name_of(named.level), to_mib(total_with(named.activations)))
                                  : fmt::format("set train.recompute = \"{}\" ({:.0f} MiB), or lower",
                                                name_of(named.level), to_mib(total_with(named.activations)));
    fail(ExitCode::kNoDevice,
         "not enough memory: {:.0f} MiB needed, {:.0f} MiB free (of {:.0f}); {} train.micro_batch, "
         "data.seq_len or the model's size",
         to_mib(total()), to_mib(memory.free_bytes), to_mib(memory.total_bytes), way_out);
}

std::vector<RecomputeChoice> recompute_choices(Context& ctx, const Model& model) {
    // A separate model that is never allocated, because measuring moves a model's tensors.
    Model other(model.config(), model.params().compute_dtype(), model.shape());
    other.set_further_scratch(model.further_scratch());
    std::vector<RecomputeChoice> choices;
    for (const Recompute level : kRecomputeLevels) {
        other.set_recompute(level);
        choices.push_back({level, other.measure(ctx),
                           recompute_flops_per_token(level, model.config(), other.params().table())});
    }
    return choices;
}

namespace {

void add_state(MemoryPlan& plan, const Optimizer& optimizer) {
    const auto add = [&](const std::string& name, DType dtype, int64_t bytes) {
        const char* const format = dtype == DType::kF32 ? " (fp32)" : " (bf16)";
        plan.entries.push_back({name + (optimizer.owns_all() ? format : ", own parts"), bytes});
    };
    const std::vector<OptimizerState> states = optimizer.states();
    add("Adam moments", states[0].dtype, states[0].bytes() + states[1].bytes());
    for (size_t i = 2; i < states.size(); ++i) add("Muon momentum", states[i].dtype, states[i].bytes());
}

}  // namespace

MemoryPlan plan_memory(Context& ctx, Model& model, const Optimizer* optimizer) {
    const Parameters& params = model.params();
    const Planner activations = model.measure(ctx);
    MemoryPlan plan;
    const bool narrow = params.master_dtype() == DType::kBF16;
    plan.entries.push_back(
        {narrow ? "master weights (bf16)" : "master weights (fp32)", params.master_bytes()});
    // Masters in bf16 are what GEMMs in bf16 read; only vectors, and everything under fp32, have copies.
    if (params.compute_bytes() > 0)
        plan.entries.push_back(
            {narrow ? "copies of weights (fp32)" : "weights (bf16)", params.compute_bytes()});
    if (params.fp8().bytes() > 0) plan.entries.push_back({"weights (fp8)", params.fp8().bytes()});
    if (optimizer) {
        plan.entries.push_back({"gradients (fp32)", params.grad_bytes()});
        add_state(plan, *optimizer);
    }
    plan.entries.push_back({kActivations, activations.kept_bytes()});
    plan.entries.push_back({kTemporaries, activations.shared_bytes()});
    plan.entries.push_back({kScratch, activations.scratch_bytes()});
    plan.entries.push_back({"token batch", DeviceBatch::bytes(model.shape())});
    return plan;
}

}  // namespace pastur
