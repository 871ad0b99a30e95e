#include "engine/spectra/spectral_scalars.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace pastur {
namespace {

constexpr double SpectrumMetrics::*kDrawn[] = {
    &SpectrumMetrics::mp_gap_ratio, &SpectrumMetrics::outlier_count, &SpectrumMetrics::outlier_energy,
    &SpectrumMetrics::stable_rank, &SpectrumMetrics::entropy_rank};

const MetricField& field_of(double SpectrumMetrics::*metric) {
    return *std::find_if(kMetricFields.begin(), kMetricFields.end(),
                         [&](const MetricField& field) { return field.value == metric; });
}

}  // namespace

std::vector<Scalar> spectral_scalars(int64_t step, const std::vector<SpectrumRecord>& records) {
    struct Mean {
        double sum = 0;
        int count = 0;
    };
    std::map<std::string, Mean> means;
    std::set<std::tuple<int64_t, int64_t, std::string>> known;
    for (const SpectrumRecord& record : records) {
        const bool first = known.emplace(record.layer, record.head, record.matrix).second;
        const std::string layer = record.layer < 0 ? "model" : fmt::format("L{:02}", record.layer);
        if (record.overlap && first)
            for (const auto& [name, value] :
                 {std::pair("before", record.overlap->before), std::pair("next", record.overlap->next)})
                if (value)
                    means[fmt::format("spectral/overlap_{}/{}/{}", name, layer, record.matrix)] = {*value, 1};
        for (const auto metric : kDrawn) {
            const MetricField& field = field_of(metric);
            const double value = record.metrics.*metric;
            if (!std::isfinite(value) || (!field.by_null && !first)) continue;
            Mean& mean =
                means[fmt::format("spectral/{}{}/{}/{}{}", field.name, field.by_null ? "." + record.null : "",
                                  layer, record.matrix, record.head < 0 ? "" : ".heads")];
            mean.sum += value;
            ++mean.count;
        }
    }
    std::vector<Scalar> scalars;
    for (const auto& [tag, mean] : means) scalars.push_back({step, tag, mean.sum / mean.count});
    return scalars;
}

}  // namespace pastur
