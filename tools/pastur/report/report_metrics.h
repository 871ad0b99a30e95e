#pragma once
// Which of the runs' metrics a page shows, so that they fit.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {

using RunGrids = std::vector<std::vector<MetricGrid>>;  ///< by run

/// The grids of all runs, thinned to about `budget` bytes. Query-key forms of whole layers keep most: single weights and
/// single pairs of positions lose steps first, then heads lose the metrics that the first screen does not need, then
/// steps, then layers. Every run loses alike, so the runs stay comparable. The notes of `sources` say what was left out.
RunGrids choose_metrics(RunGrids grids, size_t budget, std::vector<ReportRun>& sources);
/// The grids of the probe (report_probe.h), thinned by step.
RunGrids choose_probes(RunGrids grids, size_t budget, std::vector<ReportRun>& sources);

/// The steps of the chosen query-key forms of a run.
std::vector<int64_t> shown_steps(const std::vector<MetricGrid>& grids);

/// Adds the grids to every run under `key`: [{"matrix", "null", "perHead", "steps", "layers", "heads", "flags":
/// {name: records}, "metrics": {name: blob}}].
void add_grids(nlohmann::ordered_json& runs, const char* key, const RunGrids& grids, Blobs& blobs);

}  // namespace pastur
