#include "engine/spectra/probe/latent_records.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "diag/metrics.h"

namespace pastur {
namespace {

/// The fewest of the descending eigenvalues that add up to `share` of `trace`.
double rank_of_share(const std::vector<double>& eigenvalues, double trace, double share) {
    double sum = 0;
    for (size_t i = 0; i < eigenvalues.size(); ++i) {
        sum += eigenvalues[i];
        if (sum >= share * trace) return static_cast<double>(i + 1);
    }
    return static_cast<double>(eigenvalues.size());  // the sum may round to less than its share
}

}  // namespace

LatentRecord latent_record(int64_t layer, const std::string& tensor, int64_t tokens, int64_t width,
                           const std::vector<double>& eigenvalues) {
    double trace = 0;
    for (const double value : eigenvalues) trace += value;
    LatentRecord record{layer, tensor, tokens, width, trace / static_cast<double>(tokens),
                        NAN,   NAN,    NAN,    NAN};
    if (eigenvalues.empty()) record.variance = NAN;
    if (!(trace > 0)) return record;
    const EffectiveRanks ranks = effective_ranks(eigenvalues);
    record.entropy_rank = ranks.entropy;
    record.participation_ratio = ranks.participation;
    record.rank_90 = rank_of_share(eigenvalues, trace, 0.90);
    record.rank_99 = rank_of_share(eigenvalues, trace, 0.99);
    return record;
}

nlohmann::ordered_json to_json(const LatentRecord& record, int64_t step) {
    return {{"step", step},
            {"layer", record.layer},
            {"tensor", record.tensor},
            {"tokens", record.tokens},
            {"width", record.width},
            {"variance", record.variance},
            {"entropy_rank", record.entropy_rank},
            {"participation_ratio", record.participation_ratio},
            {"rank_90", record.rank_90},
            {"rank_99", record.rank_99}};
}

std::vector<Scalar> latent_scalars(int64_t step, const std::vector<LatentRecord>& records) {
    std::vector<Scalar> scalars;
    for (const LatentRecord& record : records)
        for (const auto& [metric, value] :
             {std::pair("entropy_rank", record.entropy_rank),
              std::pair("participation_ratio", record.participation_ratio),
              std::pair("rank_90", record.rank_90), std::pair("rank_99", record.rank_99)})
            scalars.push_back(
                {step, fmt::format("latents/{}/L{:02}/{}", metric, record.layer, record.tensor), value});
    return scalars;
}

}  // namespace pastur
