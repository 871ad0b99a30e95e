#pragma once
// What a page shows of a run whose log and spectra are gone, as "page" of its record (tools/pastur/runs/run_record.h).
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {

/// Whether a line of summary.jsonl is about a form whose maps are kept: a whole layer's query-key form or a part of it.
bool is_in_page_record(const nlohmann::json& line);

/// Curves, onsets and maps at a few digits, some 50 KB:
///     {"start", "end": the events, "env": {"version", "backend", "device", "ranks"},
///      "train", "val": {COLUMN: [number or null, ...]}, at most 160 logged steps,
///      "onsets": Onsets::of_layers(),
///      "maps": [{"matrix", "null", "steps", "layers", "flags", "metrics": {NAME: index in "blobs"}}],
///      "blobs": [base64 of pack_numbers(), [steps][layers], ...]}
/// Of `grids` those of is_in_page_record(); steps are left out evenly, but never the first or the last one, where these
/// would take more than kMaxMapBytes. Eigenvalues, the laws of the nulls, heads and the probe are not kept.
nlohmann::ordered_json page_record(const ReportRun& run, const std::vector<MetricGrid>& grids);
constexpr size_t kMaxMapBytes = 40 << 10;

/// The run of a folder that has config.toml and the record alone; its maps go to `grids`. Throws (kCorruptData), naming
/// statistics.json, if page_record() did not make `page`.
ReportRun read_recorded_run(const std::filesystem::path& folder, const nlohmann::ordered_json& page,
                            std::vector<MetricGrid>& grids);

}  // namespace pastur
