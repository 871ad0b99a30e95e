#pragma once
// How often a null calls an eigenvalue an outlier in a model that has learnt nothing.
#include <functional>

#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// One matrix of a variant against one null, over many random initialisations.
struct NullCalibration {
    std::string matrix, null;
    bool per_head = false;
    int64_t n = 0;             ///< eigenvalues of one matrix
    int64_t matrices = 0;      ///< draws x heads
    double outliers = 0;       ///< mean count per matrix: 0 for a true null, whose edge 1 % or less pass
    double most_outliers = 0;  ///< of any matrix
    double with_any = 0;       ///< fraction of the matrices
    double energy = 0;         ///< mean share of the trace that the outliers hold
};
/// {"matrix", "scope": "head" | "layer", "null", "n", "matrices", "outliers", "most_outliers", "with_any",
/// "energy"}
nlohmann::ordered_json to_json(const NullCalibration& line);

/// Initialises one layer of the model `draws` times (layers are alike then, and independent), seeds
/// train.seed, train.seed + 1 ..., and judges it by config.diagnostics. `progress` is told how many draws are
/// done. Takes a layer's parameters of memory and, with scope "weights", embedding and LM head.
std::vector<NullCalibration> calibrate_nulls(Context& ctx, Config config, int64_t draws,
                                             const std::function<void(int64_t)>& progress = {});

}  // namespace pastur
