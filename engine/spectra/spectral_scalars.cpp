#include "engine/spectra/spectral_scalars.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

namespace pastur {
namespace {

constexpr double SpectrumMetrics::*kDrawn[] = {
    &SpectrumMetrics::mp_gap_ratio, &SpectrumMetrics::outlier_count, &SpectrumMetrics::outlier_energy,
    &SpectrumMetrics::stable_rank, &SpectrumMetrics::entropy_rank};

std::string_view name_of(double SpectrumMetrics::*metric) {
    for (const MetricField& field : kMetricFields)
        if (field.value == metric) return field.name;
    return {};
}

}  // namespace

std::vector<Scalar> spectral_scalars(int64_t step, const std::vector<SpectrumRecord>& records) {
    struct Mean {
        double sum = 0;
        int count = 0;
    };
    std::map<std::string, Mean> means;
    for (const SpectrumRecord& record : records)
        for (const auto metric : kDrawn) {
            const double value = record.metrics.*metric;
            if (!std::isfinite(value)) continue;
            const std::string layer = record.layer < 0 ? "model" : fmt::format("L{:02}", record.layer);
            Mean& mean = means[fmt::format("spectral/{}/{}{}/{}/{}", layer, record.matrix,
                                           record.head < 0 ? "" : ".heads", record.null, name_of(metric))];
            mean.sum += value;
            ++mean.count;
        }
    std::vector<Scalar> scalars;
    for (const auto& [tag, mean] : means) scalars.push_back({step, tag, mean.sum / mean.count});
    return scalars;
}

}  // namespace pastur
