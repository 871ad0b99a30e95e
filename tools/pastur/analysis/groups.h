#pragma once
// Runs of one variant and arm, over their seeds.
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/pastur/analysis/run_statistics.h"

namespace pastur {

struct RunGroup {
    std::string variant, arm;
    std::vector<const RunStatistics*> runs;

    bool has(const RunSeries::Key& key) const;
    /// A figure of FormsStatistics of each run; NaN where a run lacks it.
    std::vector<double> values(const RunSeries::Key& key, const std::string& figure) const;
    MeanAndInterval mean(const RunSeries::Key& key, const std::string& figure) const;
    /// Of FormsStatistics::pairs. p is two-sided for "onset_depth", and for a lag that of a correlation as large.
    CorrelationTest correlation(const RunSeries::Key& key, const std::string& place) const;
    void test_correlations();  ///< of all places, for correlation()
    std::vector<double> val_losses() const;

  private:
    std::map<std::pair<RunSeries::Key, std::string>, CorrelationTest> correlations_;
};

/// In the order in which their first runs come.
std::vector<RunGroup> group_runs(const std::vector<RunStatistics>& runs);

/// An entry of "groups" of analysis.h.
nlohmann::ordered_json to_json(const RunGroup& group);

/// "layer" or "head".
std::string scope_of(const RunSeries::Key& key);
/// The matrices that a group has, in the order of kAnalysedMatrices, layers first.
std::vector<RunSeries::Key> keys_of(const RunGroup& group);
/// The nulls that a group has for a matrix, in the order of kAnalysedNulls.
std::vector<std::string> nulls_of(const RunGroup& group, const RunSeries::Key& key);

}  // namespace pastur
