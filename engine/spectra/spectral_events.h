#pragma once
// What a spectrum does that one wants to be told: spikes and collapses, once per onset.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/config/config.h"

namespace pastur {

/// Fed with every record of summary.jsonl in its order, step by step.
///
/// spike: lambda_max / lambda_plus rose above spike_ratio, and lambda_max has grown at two measurements
/// running. The null is the product law or the permuted one; mp only where nothing else was asked for: on
/// products of random matrices its edge lies inside the bulk, and every head would spike at step 0. collapse:
/// the stable rank, which no null concerns, fell below collapse_fraction of its first value. Either can begin
/// again only after it has ended. Matrices that are not finite end nothing and begin nothing.
class SpectralEvents {
  public:
    explicit SpectralEvents(const DiagnosticsConfig& config);
    /// The events that begin with this record: lines of metrics.jsonl, without "v". `record` is a line of
    /// summary.jsonl.
    std::vector<nlohmann::ordered_json> feed(const nlohmann::ordered_json& record);

  private:
    struct Track {
        std::optional<double> initial_stable_rank, last;  ///< last: lambda_max at the last measurement
        int grown = 0;                                    ///< measurements running at which lambda_max grew
        bool spiking = false, collapsed = false;
    };
    bool spike_begins(Track& track, double lambda_max, double lambda_plus) const;
    bool collapse_begins(Track& track, double stable_rank) const;

    double spike_ratio_, collapse_fraction_;
    std::string null_;  ///< what spikes are judged by
    std::map<std::tuple<std::string, int64_t, int64_t>, Track> tracks_;
};

/// "step 100: layer 3 head 7: spike of qk, largest eigenvalue 1.8 x the edge of product": for the console.
std::string describe_event(const nlohmann::ordered_json& event);

}  // namespace pastur
