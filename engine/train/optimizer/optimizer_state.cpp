#include "engine/train/optimizer/optimizer_state.h"

#include "kernels/base/memory.h"
#include "kernels/optimizer/muon.h"

namespace pastur {
namespace {

/// Parts of tensors that Muon does not update begin at multiples of this, as tensors do.
constexpr int64_t kPart = kAlignment / 2;

/// FLOPs of a Newton-Schulz step, over 2.
double muon_cost(const Param& param) {
    const auto shorter = static_cast<double>(std::min(param.shape[0], param.shape[1]));
    const auto longer = static_cast<double>(std::max(param.shape[0], param.shape[1]));
    return shorter * shorter * (2 * longer + shorter);
}

/// The matrices of Muon, each with its padding.
FlatRanges muon_ranges(const ParamTable& table) {
    FlatRanges ranges;
    for (const Param& param : table.params())
        if (is_muon_matrix(param)) ranges.push_back({param.offset, param.stored()});
    return joined(std::move(ranges));
}

/// All tensors that AdamW updates under Muon, with padding.
FlatRanges adamw_ranges(const ParamTable& table) {
    FlatRanges ranges;
    int64_t from = 0;
    for (const FlatRange& muon : muon_ranges(table)) {
        if (muon.begin > from) ranges.push_back({from, muon.begin - from});
        from = (muon.end() + kPart - 1) / kPart * kPart;  // behind the padding of a group
    }
    if (from < table.total_elements()) ranges.push_back({from, table.total_elements() - from});
    return ranges;
}

}  // namespace

bool is_muon_matrix(const Param& param) {
    return param.is_matrix() && param.name.starts_with("model.layers.");
}

std::vector<OptimizerState> optimizer_states(const TrainConfig& config, const ParamTable& table) {
    const bool muon = config.optimizer == OptimizerKind::kMuon;
    const FlatRanges adamw = muon ? adamw_ranges(table) : FlatRanges{{0, table.total_elements()}};
    const DType moments = dtype_of(config.moments);
    std::vector<OptimizerState> states = {{"exp_avg", moments, adamw}, {"exp_avg_sq", moments, adamw}};
    if (muon) states.push_back({"momentum", DType::kF32, muon_ranges(table)});
    return states;
}

std::vector<FlatRanges> muon_shares(const ParamTable& table, int ranks) {
    std::vector<const Param*> matrices;
    for (const Param& param : table.params())
        if (is_muon_matrix(param)) matrices.push_back(&param);
    std::stable_sort(matrices.begin(), matrices.end(),
                     [](const Param* a, const Param* b) { return muon_cost(*a) > muon_cost(*b); });
    std::vector<FlatRanges> shares(static_cast<size_t>(ranks));
    std::vector<double> costs(shares.size());
    for (const Param* matrix : matrices) {
        const auto least = std::min_element(costs.begin(), costs.end());
        *least += muon_cost(*matrix);
        shares[static_cast<size_t>(least - costs.begin())].push_back({matrix->offset, matrix->stored()});
    }
    const FlatRanges rest = adamw_ranges(table);
    const int64_t blocks = (elements_of(rest) + kPart - 1) / kPart;
    for (int64_t rank = 0; rank < ranks; ++rank) {
        FlatRanges& share = shares[static_cast<size_t>(rank)];
        const int64_t begin = blocks * rank / ranks * kPart, end = blocks * (rank + 1) / ranks * kPart;
        for (const FlatRange& part : part_of_stream(rest, begin, end - begin)) share.push_back(part);
        share = joined(std::move(share));
    }
    return shares;
}

double muon_flops(const ParamTable& table, int ranks) {
    double most = 0;
    for (const FlatRanges& share : muon_shares(table, ranks)) {
        double cost = 0;
        for (const Param& param : table.params())
            if (is_muon_matrix(param))
                for_each_overlap(share, {param.offset, param.stored()},
                                 [&](const FlatRange&, int64_t) { cost += muon_cost(param); });
        most = std::max(most, cost);
    }
    return 2 * kNewtonSchulzSteps * most;
}

}  // namespace pastur
