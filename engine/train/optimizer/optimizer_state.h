#pragma once
// What the optimizer keeps per weight between steps, and how ZeRO-1 divides it under Muon: functions of the
// recipe and the parameter table only.
#include <string>

#include "engine/config/config.h"
#include "engine/model/parameters.h"
#include "engine/train/optimizer/flat_ranges.h"

namespace pastur {

/// One kept number for every element of `ranges`. A checkpoint calls it <tensor>.<name>.
struct OptimizerState {
    std::string name;
    DType dtype;
    FlatRanges ranges;
    int64_t bytes() const { return elements_of(ranges) * size_of(dtype); }
};

/// AdamW: exp_avg and exp_avg_sq. Muon: momentum of its matrices in fp32, and both moments of all other
/// tensors. The moments have the format train.moments.
std::vector<OptimizerState> optimizer_states(const TrainConfig& config, const ParamTable& table);

/// Whether Muon updates this tensor: a matrix of a layer.
bool is_muon_matrix(const Param& param);

/// What each rank owns under Muon with train.zero = 1: whole matrices, balanced by the cost of their updates,
/// and an equal part of all other tensors.
std::vector<FlatRanges> muon_shares(const ParamTable& table, int ranks);

/// FLOPs of Muon's GEMMs in one update: those of all matrices, or with `ranks` above 1 of the rank with the most of
/// them, by muon_shares(). Excludes the padding of matrices whose sides are not multiples of 8.
double muon_flops(const ParamTable& table, int ranks);

}  // namespace pastur
