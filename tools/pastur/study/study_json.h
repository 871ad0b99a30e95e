#pragma once
// study.json: the figures of every run of a study, and of every variant and arm over the seeds.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/pastur/analysis/run_statistics.h"
#include "tools/pastur/runs/run_summary.h"
#include "tools/pastur/study/design.h"

namespace pastur {

/// Summaries of finished runs by cell name.
using FinishedRuns = std::map<std::string, RunSummary>;

/// {"v", "name", "title", "notes", "runs": [{"run", "variant", "arm", "seed", "done", "error", "settings": {key: value},
/// <figures of run_columns()>, "cost": {<time, memory and state>}}], "groups": [{"variant", "arm", "seeds", <figure>:
/// {"n", "mean", "low", "high"}, "cost": {...}}], "analysis": <analysis.h>}, in the order of the design. Runs that are not
/// in `finished` have no figures; `statistics` are those of the finished ones. All but "cost" is the same however often
/// the study was stopped. errors: by cell name.
nlohmann::ordered_json study_json(const StudyDesign& design, const FinishedRuns& finished,
                                  const std::map<std::string, std::string>& errors,
                                  const std::vector<RunStatistics>& statistics);

/// JSON for reading: what fits stands on one line.
std::string readable_text(const nlohmann::ordered_json& json);

/// The groups' main figures as a table for the console.
std::string study_table(const nlohmann::ordered_json& study);

}  // namespace pastur
