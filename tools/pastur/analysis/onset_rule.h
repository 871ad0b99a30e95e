#pragma once
// The rule by which a form crosses a threshold, for spikes and collapses alike.
#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>

namespace pastur {

/// When a form went beyond a threshold to stay there for two measurements, as engine/spectra/spectral_events.h has it.
struct Crossing {
    enum class Kind : uint8_t {
        kUnmeasured,  ///< less than three measurements, which are the fewest that can show an onset
        kNever,
        kAtStart,  ///< beyond at the first two measurements: a baseline, not an onset
        kOnset
    };
    Kind kind = Kind::kUnmeasured;
    int64_t step = -1;   ///< of the first of the two measurements
    bool stays = false;  ///< beyond at all later measurements
};

/// values: finite, by step.
template <typename Beyond>
Crossing find_crossing(std::span<const std::pair<int64_t, double>> values, const Beyond& beyond) {
    if (values.size() < 3) return {};
    for (size_t i = 0; i + 1 < values.size(); ++i) {
        if (!beyond(values[i].second) || !beyond(values[i + 1].second)) continue;
        const bool stays = std::all_of(values.begin() + static_cast<std::ptrdiff_t>(i), values.end(),
                                       [&](const auto& value) { return beyond(value.second); });
        return {i == 0 ? Crossing::Kind::kAtStart : Crossing::Kind::kOnset, values[i].first, stays};
    }
    return {Crossing::Kind::kNever};
}

}  // namespace pastur
