#pragma once
// How often a null calls an eigenvalue of an untrained model an outlier.
#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// One matrix of a variant against one null, over many random initialisations.
struct NullCalibration {
    std::string matrix, null;
    bool per_head = false;
    int64_t n = 0;         ///< eigenvalues per matrix
    int64_t matrices = 0;  ///< draws x heads
    double outliers =
        0;  ///< mean count per matrix; about 0.01 if the null is true and its edge the 99 % quantile
    double most_outliers = 0;  ///< largest count of any matrix
    double with_any = 0;       ///< fraction of the matrices that have any
    double energy = 0;         ///< mean share of the trace in outliers
};
/// {"matrix", "scope": "head" | "layer", "null", "n", "matrices", "outliers", "most_outliers", "with_any",
/// "energy"}
nlohmann::ordered_json to_json(const NullCalibration& line);

struct Calibration {
    std::vector<NullCalibration> lines;
    std::vector<std::string> missing;  ///< missing_nulls(): why a matrix has no line for a null
};

/// Initialises one layer of the model `draws` times, with seeds train.seed, train.seed + 1, ..., and judges it by
/// config.diagnostics. At initialisation all layers are independent and identically distributed, so one stands
/// for all. `progress` receives the number of draws done. Takes memory for the parameters of a layer and, with
/// scope "weights", of the embedding and LM head.
Calibration calibrate_nulls(Context& ctx, Config config, int64_t draws,
                            const std::function<void(int64_t)>& progress = {});

}  // namespace pastur
