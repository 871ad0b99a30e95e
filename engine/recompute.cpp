#include "engine/recompute.h"

#include <algorithm>

#include "engine/attention.h"

namespace pastur {
namespace {

/// Elements of all layers' matrices with `part` in their names.
double matrix_elements(const ParamTable& table, const char* part) {
    int64_t elements = 0;
    for (const Param& param : table.params())
        if (param.is_matrix() && param.name.find(part) != std::string::npos) elements += param.shape.numel();
    return static_cast<double>(elements);
}

}  // namespace

const std::vector<std::string>& recompute_names() {
    static const std::vector<std::string> names = {"none", "norms", "ffn", "block"};
    return names;
}

Recompute recompute_level(const std::string& name) {
    const std::vector<std::string>& names = recompute_names();
    const auto found = std::find(names.begin(), names.end(), name);
    PASTUR_CHECK(found != names.end(), "train.recompute = \"{}\"", name);
    return static_cast<Recompute>(found - names.begin());
}

double recompute_flops_per_token(const Config& config, const ParamTable& table) {
    const Recompute level = recompute_level(config.train.recompute);
    if (level < Recompute::kFfn) return 0;
    double flops = 2 * (matrix_elements(table, ".mlp.gate_proj.") + matrix_elements(table, ".mlp.up_proj."));
    if (level == Recompute::kFfn) return flops;
    // The last layer's attention is still there when backward begins.
    const auto layers = static_cast<double>(config.model.layers);
    const CoreWidths core = core_widths(config);
    const auto attention =
        layers * static_cast<double>(config.model.heads * (core.qk + core.v) * config.data.seq_len);
    return flops + (layers - 1) / layers * (2 * matrix_elements(table, ".self_attn.") + attention);
}

}  // namespace pastur
