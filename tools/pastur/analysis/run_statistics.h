#pragma once
// The statistics of one run.
#include <array>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/pastur/analysis/rank_correlation.h"
#include "tools/pastur/analysis/run_series.h"

namespace pastur {

/// The rules by which runs are judged, as "rules" of the analysis states them.
struct AnalysisRules {
    static constexpr std::array kSpikes = {1.2, 2.0, 10.0};     ///< lambda_max over the null's edge
    static constexpr std::array kCollapses = {0.5, 0.25, 0.1};  ///< kept_step0
    static constexpr double kEarlyFraction = 0.05;              ///< of the run's steps
    static constexpr double kLagSpike = 2;  ///< edges of the spike that lags and depths are about
};
/// "1.2", "2", "0.5": a threshold as a key.
std::string threshold_key(double threshold);

/// Named numbers in the order in which they were set.
class Figures {
  public:
    void set(const std::string& name, double value);
    double operator[](const std::string& name) const;  ///< NaN if it was not set
    const std::vector<std::string>& names() const { return names_; }

  private:
    std::vector<std::string> names_;
    std::unordered_map<std::string, double> values_;
};

/// Of a matrix in a scope.
struct FormsStatistics {
    int64_t layers = 0, forms = 0;
    /// By their places in FORMS of analysis.h, such as "nulls/product/spike/2/share".
    Figures figures;
    /// What the rank correlations of FORMS are of, by the place of their objects: "nulls/product/onset_depth" holds
    /// (layer, median onset of its forms), "nulls/product/lag/0.5" (spike's onset, collapse's). Forms that are beyond a
    /// threshold from the start are left out, as are those with neither onset; an onset that did not occur is infinite.
    std::map<std::string, Pairs> pairs;
};

struct RunStatistics {
    std::string name, variant, arm;
    int64_t steps = 0;         ///< of the recipe; if that is unknown, the last that was measured
    int64_t measurements = 0;  ///< most of any matrix
    double val_loss = NAN;
    std::map<std::string, std::string>
        settings;  ///< those that decide a run's results, by key; empty: unknown
    std::map<RunSeries::Key, FormsStatistics> matrices;

    int64_t early_steps() const;
};

/// Fills measurements and matrices; `steps` must be set, or is set where it is 0.
void add_statistics(RunStatistics& run, const RunSeries& series);

}  // namespace pastur
