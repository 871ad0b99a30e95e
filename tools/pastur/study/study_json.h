#pragma once
// study.json: the figures of every run of a study, and of every variant and arm over the seeds.
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "tools/pastur/run_summary.h"
#include "tools/pastur/study/design.h"

namespace pastur {

/// Mean of a figure over seeds, and the interval in which the mean of all seeds lies with probability 95 %, by
/// Student's t distribution. One value has no interval: low and high are NaN.
struct MeanAndInterval {
    int64_t count = 0;
    double mean = NAN, low = NAN, high = NAN;
};
/// Of the values that are not NaN.
MeanAndInterval mean_over_seeds(std::span<const double> values);

/// Summaries of finished runs by cell name.
using FinishedRuns = std::map<std::string, RunSummary>;

/// {"v", "name", "title", "notes", "runs": [{"run", "variant", "arm", "seed", "done", "error", "settings": {key: value},
/// <figures of run_columns()>, "cost": {<time, memory and state>}}], "groups": [{"variant", "arm", "seeds", <figure>:
/// {"n", "mean", "low", "high"}, "cost": {...}}]}, in the order of the design. Runs that are not in `finished` have no
/// figures. All but "cost" is the same however often the study was stopped. errors: by cell name.
nlohmann::ordered_json study_json(const StudyDesign& design, const FinishedRuns& finished,
                                  const std::map<std::string, std::string>& errors);

/// The groups' main figures as a table for the console.
std::string study_table(const nlohmann::ordered_json& study);

}  // namespace pastur
