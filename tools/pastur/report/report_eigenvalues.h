#pragma once
// The eigenvalues of a page's runs, at as many steps as the page has room for.
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {

/// Adds "spectra" to every run: [{"matrix", "perHead", "layers", "heads", "n", "steps", "blob"}]. Takes the steps with
/// eigenvalues that are among `measured`, those whose metrics are on the page, or all if there are none. Each kind of
/// matrix has the same number of steps in every run, so the runs stay comparable; `budget` bytes hold them all. The
/// notes of `sources` say what was left out.
void add_eigenvalues(nlohmann::ordered_json& runs, const std::vector<EigenvalueFiles>& files,
                     const std::vector<std::vector<int64_t>>& measured, size_t budget, Blobs& blobs,
                     std::vector<ReportRun>& sources);

}  // namespace pastur
