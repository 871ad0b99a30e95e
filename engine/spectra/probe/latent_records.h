#pragma once
// Covariance of activations on the probe: lines of spectra/latents.jsonl, one per step, layer and tensor.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/io/tensorboard.h"

namespace pastur {

/// The covariance C of one tensor of a layer: that of the columns over the probe's tokens, each column minus its
/// mean; eigenvalues are lambda_i, p_i = lambda_i / sum lambda. A number that the spectrum does not give is NaN.
struct LatentRecord {
    int64_t layer;
    std::string tensor;  ///< "c_kv", "c_k", "c_v", "keys", "values", "residual" (latent_spectra.h)
    int64_t tokens, width;
    double variance;             ///< trace C
    double entropy_rank;         ///< exp(-sum p ln p)
    double participation_ratio;  ///< 1 / sum p^2
    double rank_90, rank_99;     ///< the fewest eigenvalues that add up to 90 and 99 % of the trace
};

/// eigenvalues: of tokens x C, descending; empty where they are not known.
LatentRecord latent_record(int64_t layer, const std::string& tensor, int64_t tokens, int64_t width,
                           const std::vector<double>& eigenvalues);

/// {"step", "layer", "tensor", "tokens", "width", "variance", "entropy_rank", "participation_ratio", "rank_90",
/// "rank_99"}. metrics_line() makes it a line.
nlohmann::ordered_json to_json(const LatentRecord& record, int64_t step);

/// `latents/<metric>/L03/<tensor>` for the ranks.
std::vector<Scalar> latent_scalars(int64_t step, const std::vector<LatentRecord>& records);

}  // namespace pastur
