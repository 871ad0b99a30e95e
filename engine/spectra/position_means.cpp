#include "engine/spectra/position_means.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

namespace pastur {

void append_position_means(std::vector<SpectrumRecord>& records) {
    std::map<std::tuple<int64_t, int64_t, std::string>, std::vector<const SpectrumRecord*>> pairs;
    std::vector<const std::vector<const SpectrumRecord*>*> in_order;
    for (const SpectrumRecord& record : records) {
        if (!record.matrix.starts_with("qk@")) continue;
        auto& of_one = pairs[{record.layer, record.head, record.null}];
        if (of_one.empty()) in_order.push_back(&of_one);
        of_one.push_back(&record);
    }
    std::vector<SpectrumRecord> means;
    for (const auto* of_one : in_order) {
        SpectrumRecord& mean = means.emplace_back(*of_one->front());
        mean.matrix = kPositionMeans;
        const auto count = static_cast<double>(of_one->size());
        for (const MetricField& field : kMetricFields) {
            double sum = 0;
            for (const SpectrumRecord* record : *of_one) sum += record->metrics.*field.value;
            mean.metrics.*field.value = sum / count;
        }
        if (mean.kept_null) {
            double sum = 0;
            for (const SpectrumRecord* record : *of_one) sum += record->kept_null.value_or(NAN);
            mean.kept_null = sum / count;
        }
        for (const SpectrumRecord* record : *of_one)
            for (const std::string& flag : record->flags)
                if (std::find(mean.flags.begin(), mean.flags.end(), flag) == mean.flags.end())
                    mean.flags.push_back(flag);
    }
    records.insert(records.end(), means.begin(), means.end());
}

}  // namespace pastur
