#include "engine/spectra/spectral_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using nlohmann::ordered_json;

/// NaN where the record has null, as it does for what is not finite.
double number(const ordered_json& record, const char* key) {
    const auto found = record.find(key);
    return found != record.end() && found->is_number() ? found->get<double>()
                                                       : std::numeric_limits<double>::quiet_NaN();
}

std::string event_null(const std::vector<NullKind>& nulls) {
    for (const NullKind null : nulls)
        if (null != NullKind::kMp) return name_of(null);
    return nulls.empty() ? "" : name_of(nulls.front());
}

ordered_json event_of(const char* name, const ordered_json& record) {
    ordered_json event = {{"event", name}};
    for (const char* key : {"step", "layer", "head", "matrix", "null"}) event[key] = record.at(key);
    return event;
}

}  // namespace

SpectralEvents::SpectralEvents(const DiagnosticsConfig& config)
    : spike_ratio_(config.spike_ratio),
      collapse_fraction_(config.collapse_fraction),
      null_(event_null(config.nulls)) {}

bool SpectralEvents::spike_begins(Track& track, double lambda_max, double lambda_plus) const {
    track.grown = track.last && lambda_max > *track.last ? track.grown + 1 : 0;
    track.last = lambda_max;
    const bool above = lambda_max > spike_ratio_ * lambda_plus;
    const bool begins = above && track.grown >= 2 && !track.spiking;
    track.spiking = above && (track.spiking || begins);
    return begins;
}

bool SpectralEvents::collapse_begins(Track& track, double stable_rank) const {
    if (!track.initial_stable_rank) track.initial_stable_rank = stable_rank;
    const bool below = stable_rank < collapse_fraction_ * *track.initial_stable_rank;
    const bool begins = below && !track.collapsed;
    track.collapsed = below;
    return begins;
}

std::vector<ordered_json> SpectralEvents::feed(const ordered_json& record) {
    std::vector<ordered_json> events;
    const double lambda_max = number(record, "lambda_max"), stable_rank = number(record, "stable_rank");
    if (!std::isfinite(lambda_max) || !std::isfinite(stable_rank)) return events;
    Track& track = tracks_[{record.at("matrix").get<std::string>(), record.at("layer").get<int64_t>(),
                            record.at("head").get<int64_t>()}];
    const double lambda_plus = number(record, "lambda_plus");
    if (record.at("null").get<std::string>() == null_ && spike_begins(track, lambda_max, lambda_plus)) {
        events.push_back(event_of("spike", record));
        events.back()["lambda_max"] = lambda_max;
        events.back()["lambda_plus"] = lambda_plus;
    }
    if (collapse_begins(track, stable_rank)) {
        events.push_back(event_of("collapse", record));
        events.back()["stable_rank"] = stable_rank;
        events.back()["initial_stable_rank"] = *track.initial_stable_rank;
    }
    return events;
}

std::string describe_event(const ordered_json& event) {
    const auto head = event.at("head").get<int64_t>();
    const std::string where =
        fmt::format("step {}: layer {}{}", event.at("step").get<int64_t>(), event.at("layer").get<int64_t>(),
                    head < 0 ? "" : fmt::format(" head {}", head));
    const auto matrix = event.at("matrix").get<std::string>();
    if (event.at("event") == "spike")
        return fmt::format("{}: spike in {}, largest eigenvalue {:.3g}, {:.2f} x the edge of {}", where,
                           matrix, event.at("lambda_max").get<double>(),
                           event.at("lambda_max").get<double>() / event.at("lambda_plus").get<double>(),
                           event.at("null").get<std::string>());
    return fmt::format("{}: {} collapses, stable rank {:.3g} from {:.3g}", where, matrix,
                       event.at("stable_rank").get<double>(), event.at("initial_stable_rank").get<double>());
}

}  // namespace pastur
