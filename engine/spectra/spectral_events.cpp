#include "engine/spectra/spectral_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// mp last: on products of random matrices its edge lies inside the bulk.
std::vector<std::string> by_preference(const std::vector<NullKind>& nulls) {
    std::vector<std::string> names;
    for (const NullKind null : nulls)
        if (null != NullKind::kMp) names.emplace_back(name_of(null));
    names.emplace_back(name_of(NullKind::kMp));
    return names;
}

bool is_query_key_form(const std::string& matrix) {
    return matrix == "qk" || matrix == "qk_content" || matrix == "qk_rope";
}

/// Layers or heads that are beyond a threshold, and the one furthest beyond.
struct Tally {
    std::map<std::pair<int64_t, int64_t>, double> values;  ///< by layer and head: the furthest of its forms
    bool largest;                                          ///< the largest is furthest, else the smallest

    bool further(double a, double b) const { return largest ? a > b : a < b; }
    void add(const SpectrumRecord& record, double value) {
        if (std::isnan(value)) return;
        const auto [found, is_new] = values.try_emplace({record.layer, record.head}, value);
        if (!is_new && further(value, found->second)) found->second = value;
    }
    int64_t beyond(double threshold) const {
        return std::count_if(values.begin(), values.end(),
                             [&](const auto& entry) { return further(entry.second, threshold); });
    }
    /// {layer, value}
    std::pair<int64_t, double> furthest() const {
        std::pair<int64_t, double> result = {-1, largest ? -INFINITY : INFINITY};
        for (const auto& [where, value] : values)
            if (further(value, result.second)) result = {where.first, value};
        return result;
    }
};

std::string describe_edges(const Tally& layers, const Tally& heads, double ratio) {
    const int64_t layers_beyond = layers.beyond(ratio), heads_beyond = heads.beyond(ratio);
    if (layers_beyond + heads_beyond == 0) return "";
    std::vector<std::string> counts;
    if (!layers.values.empty())
        counts.push_back(fmt::format("{}/{} layers", layers_beyond, layers.values.size()));
    if (!heads.values.empty())
        counts.push_back(fmt::format("{}/{} heads", heads_beyond, heads.values.size()));
    const auto [layer, largest] = std::max(layers.furthest(), heads.furthest(),
                                           [](const auto& a, const auto& b) { return a.second < b.second; });
    return fmt::format("{} beyond the edge (largest {:.3g} x, layer {})", fmt::join(counts, ", "), largest,
                       layer);
}

std::string describe_kept(const Tally& layers, const Tally& heads, double fraction) {
    const bool whole_layers = layers.beyond(fraction) > 0;
    const Tally& kept = whole_layers ? layers : heads;
    const int64_t below = kept.beyond(fraction);
    if (below == 0) return "";
    const auto [layer, least] = kept.furthest();
    const bool one = below == 1;
    return fmt::format("{} {}{} keep{} less than {} (least {:.0f} %, layer {})", below,
                       whole_layers ? "layer" : "head", one ? "" : "s", one ? "s" : "",
                       fraction == 0.5 ? "half" : fmt::format("{:.0f} %", fraction * 100), least * 100,
                       layer);
}

}  // namespace

nlohmann::ordered_json to_json(const Onset& onset) {
    const bool spike = onset.kind == Onset::Kind::kSpike;
    return {{"event", spike ? "spike" : "collapse"},
            {"step", onset.confirmed},
            {"onset", onset.first},
            {"layer", onset.layer},
            {"head", onset.head},
            {"matrix", onset.matrix},
            {"null", onset.null},
            {"threshold", onset.threshold},
            {spike ? "lambda_max" : "stable_rank", onset.value},
            {spike ? "lambda_plus" : "initial_stable_rank", onset.reference}};
}

std::string describe(const Onset& onset) {
    const std::string where =
        fmt::format("step {}: {}{}", onset.confirmed,
                    onset.layer < 0 ? std::string("model") : fmt::format("layer {}", onset.layer),
                    onset.head < 0 ? "" : fmt::format(" head {}", onset.head));
    if (onset.kind == Onset::Kind::kSpike)
        return fmt::format(
            "{}: spike in {}, largest eigenvalue {:.3g} x the edge of {} (above {} since step {})", where,
            onset.matrix, onset.value / onset.reference, onset.null, onset.threshold, onset.first);
    return fmt::format(
        "{}: collapse of {}, stable rank {:.3g} of {:.3g} at step 0 (below {:.0f} % since step {})", where,
        onset.matrix, onset.value, onset.reference, onset.threshold * 100, onset.first);
}

SpectralEvents::SpectralEvents(const DiagnosticsConfig& config)
    : spike_ratios_{config.spike_ratio},
      collapse_fractions_{config.collapse_fraction},
      nulls_(by_preference(config.nulls)) {
    for (const double ratio : {2.0, 10.0})
        if (ratio > config.spike_ratio) spike_ratios_.push_back(ratio);
    for (const double fraction : {0.25, 0.1})
        if (fraction < config.collapse_fraction) collapse_fractions_.push_back(fraction);
}

template <typename Beyond>
std::vector<size_t> SpectralEvents::advance(Track& track, int64_t step, const std::vector<double>& thresholds,
                                            const Beyond& beyond) {
    std::vector<size_t> confirmed;
    track.crossings.resize(thresholds.size());
    for (size_t i = 0; i < thresholds.size(); ++i) {
        Track::Crossing& crossing = track.crossings[i];
        if (crossing.told) continue;
        if (!beyond(thresholds[i])) {
            crossing.since = -1;
        } else if (crossing.since < 0) {
            crossing.since = step;
        } else {
            crossing.told = true;
            confirmed.push_back(i);
        }
    }
    return confirmed;
}

std::vector<Onset> SpectralEvents::feed(int64_t step, SpectrumRecord& record) {
    std::vector<Onset> onsets;
    const double lambda_max = record.metrics.lambda_max, stable_rank = record.metrics.stable_rank;
    if (!std::isfinite(lambda_max) || !std::isfinite(stable_rank)) return onsets;
    const Matrix matrix{record.matrix, record.layer, record.head};
    const auto add = [&](Onset::Kind kind, int64_t first, double threshold, double value, double reference) {
        onsets.push_back({kind, first, step, record.layer, record.head, record.matrix, record.null, threshold,
                          value, reference});
    };

    Track& spike = spikes_[{matrix, record.null}];
    for (const size_t i : advance(spike, step, spike_ratios_,
                                  [&](double ratio) { return record.metrics.mp_gap_ratio > ratio; }))
        add(Onset::Kind::kSpike, spike.crossings[i].since, spike_ratios_[i], lambda_max,
            record.metrics.lambda_plus);

    Track& collapse = collapses_[matrix];
    if (step == 0) collapse.initial_stable_rank = stable_rank;
    if (collapse.initial_stable_rank > 0) record.kept_step0 = stable_rank / collapse.initial_stable_rank;
    if (collapse.last == step) return onsets;  // a record of another null
    collapse.last = step;
    for (const size_t i : advance(collapse, step, collapse_fractions_, [&](double fraction) {
             return record.kept_step0.value_or(kNaN) < fraction;
         }))
        add(Onset::Kind::kCollapse, collapse.crossings[i].since, collapse_fractions_[i], stable_rank,
            collapse.initial_stable_rank);
    return onsets;
}

std::string SpectralEvents::describe_measurement(int64_t step, const std::vector<SpectrumRecord>& records,
                                                 const std::vector<Onset>& onsets) const {
    std::map<std::string, std::string> null_of;  // by matrix
    for (const std::string& null : nulls_)
        for (const SpectrumRecord& record : records)
            if (record.null == null) null_of.try_emplace(record.matrix, null);
    if (std::none_of(onsets.begin(), onsets.end(), [&](const Onset& onset) {
            return is_query_key_form(onset.matrix) &&
                   (onset.kind == Onset::Kind::kCollapse || onset.null == null_of[onset.matrix]);
        }))
        return "";
    Tally beyond_layers{{}, true}, beyond_heads{{}, true}, kept_layers{{}, false}, kept_heads{{}, false};
    for (const SpectrumRecord& record : records) {
        if (!is_query_key_form(record.matrix)) continue;
        const bool head = record.head >= 0;
        (head ? kept_heads : kept_layers).add(record, record.kept_step0.value_or(kNaN));
        if (record.null == null_of[record.matrix])
            (head ? beyond_heads : beyond_layers).add(record, record.metrics.mp_gap_ratio);
    }
    std::vector<std::string> parts = {describe_edges(beyond_layers, beyond_heads, spike_ratios_.front()),
                                      describe_kept(kept_layers, kept_heads, collapse_fractions_.front())};
    std::erase(parts, "");
    return fmt::format("step {} spectra: {}", step, fmt::join(parts, "; "));
}

}  // namespace pastur
