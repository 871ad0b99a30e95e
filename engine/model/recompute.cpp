#include "engine/model/recompute.h"

#include "engine/model/attention/variants.h"

namespace pastur {
namespace {

/// Elements of all matrices with `part` in their names that GEMMs multiply with every token.
double matrix_elements(const ParamTable& table, const char* part) {
    int64_t elements = 0;
    for (const Param& param : table.params())
        if (param.is_matrix() && param.per_token && param.name.find(part) != std::string::npos)
            elements += param.shape.numel();
    return static_cast<double>(elements);
}

}  // namespace

Recompute first_that_fits(std::span<const int64_t> totals, int64_t free_bytes) {
    const auto fits = [&](int64_t bytes) {
        return static_cast<double>(bytes) <= kRecomputeAutoShare * static_cast<double>(free_bytes);
    };
    size_t level = 0;
    while (level + 1 < totals.size() && !fits(totals[level])) ++level;
    return static_cast<Recompute>(level);
}

double recompute_flops_per_token(Recompute level, const Config& config, const ParamTable& table) {
    if (level < Recompute::kFfn) return 0;
    double flops = 2 * (matrix_elements(table, ".mlp.gate_proj.") + matrix_elements(table, ".mlp.up_proj."));
    if (level == Recompute::kFfn) return flops;
    // The last layer's attention half is still in memory when backward begins.
    const auto layers = static_cast<double>(config.model.layers);
    const CoreWidths core = variant_of(config).core_widths(config);
    const auto attention =
        layers * static_cast<double>(config.model.heads * (core.qk + core.v) * config.data.seq_len);
    return flops + (layers - 1) / layers * (2 * matrix_elements(table, ".self_attn.") + attention);
}

}  // namespace pastur
