#pragma once
// Onsets of spikes and collapses in the spectra of a run.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "engine/config/config.h"
#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// The first time that a matrix is beyond a threshold at two measurements in succession. Measurements that are
/// not finite are skipped.
///     spike: lambda_max / lambda_plus is above 1.2, 2 or 10, for each null
///     collapse: stable_rank / its value at step 0 is below 50 %, 25 % or 10 %, which no null affects
/// diagnostics.spike_ratio and collapse_fraction replace 1.2 and 50 %.
struct Onset {
    enum class Kind : uint8_t { kSpike, kCollapse };
    Kind kind;
    int64_t first, confirmed;  ///< the steps of the two measurements
    int64_t layer, head;       ///< as SpectrumRecord
    std::string matrix, null;  ///< null: of a collapse, that of the record that showed it
    double threshold;
    double value;      ///< lambda_max, or stable_rank, at `confirmed`
    double reference;  ///< lambda_plus then, or stable_rank at step 0
};

/// A line of metrics.jsonl, without "v": {"event": "spike", "step": <confirmed>, "onset": <first>, "layer",
/// "head", "matrix", "null", "threshold", "lambda_max", "lambda_plus"}, or "collapse" with "stable_rank" and
/// "initial_stable_rank".
nlohmann::ordered_json to_json(const Onset& onset);

/// "step 20: layer 3 head 7: spike in qk, largest eigenvalue 5.2 x the edge of product (above 2 since step 10)"
std::string describe(const Onset& onset);

/// Follows the records of a run, step by step.
class SpectralEvents {
  public:
    explicit SpectralEvents(const DiagnosticsConfig& config);

    /// Sets record.kept_step0 and returns the onsets that the record confirms.
    std::vector<Onset> feed(int64_t step, SpectrumRecord& record);

    /// A line for the console if `onsets`, those of a measurement's records, has one of a query-key form:
    ///     step 20 spectra: 12/12 layers, 97/144 heads beyond the edge (largest 51.6 x, layer 2); 9 layers keep
    ///     less than half (least 7 %, layer 1)
    /// Else "". Counts the layers and heads that are beyond the first threshold at this measurement, and the
    /// layers, or heads if no layer does, that keep less than the first fraction. The edge is that of a form's
    /// first null that is not mp, if it has one. A layer or head with several query-key forms counts once.
    std::string describe_measurement(int64_t step, const std::vector<SpectrumRecord>& records,
                                     const std::vector<Onset>& onsets) const;

  private:
    /// Progress of one quantity of one matrix against each of its thresholds.
    struct Track {
        struct Crossing {
            int64_t since = -1;  ///< step of the unconfirmed measurement beyond the threshold; -1: none
            bool told = false;
        };
        std::vector<Crossing> crossings;
        int64_t last = -1;  ///< step of the last measurement
        double initial_stable_rank = 0;
    };
    /// Indices of the thresholds that the track confirms at this step.
    template <typename Beyond>
    static std::vector<size_t> advance(Track& track, int64_t step, const std::vector<double>& thresholds,
                                       const Beyond& beyond);

    std::vector<double> spike_ratios_, collapse_fractions_;
    std::vector<std::string> nulls_;  ///< describe_measurement() judges by the first that a matrix has
    using Matrix = std::tuple<std::string, int64_t, int64_t>;  ///< name, layer, head
    std::map<std::pair<Matrix, std::string>, Track> spikes_;   ///< by matrix and null
    std::map<Matrix, Track> collapses_;
};

}  // namespace pastur
