#pragma once
// statistics.json: what a study keeps of a finished run. It is some 150 KB where the spectra are 70 MB, and suffices for
// study.json and for the page's maps, losses and onsets of layers, so a run's metrics and spectra may be deleted, or stay
// on another machine.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/pastur/analysis/run_statistics.h"
#include "tools/pastur/runs/run_summary.h"

namespace pastur {

struct RunRecord {
    RunSummary summary;
    RunStatistics statistics;  ///< without settings, which config.toml next to the record holds
    nlohmann::ordered_json
        page;  ///< tools/pastur/report/page_record.h; null: the record of a former version lacks it
};

std::filesystem::path record_of(const std::filesystem::path& run_folder);

/// Whether the run's log was deleted or stayed elsewhere, and only its statistics.json is there.
bool is_kept_as_record(const std::filesystem::path& run_folder);

/// {"v": 1, "summary": {<members of RunSummary>}, "variant", "arm", "steps", "measurements", "matrices": {MATRIX:
/// {"layer"|"head": {"layers", "forms", "figures": {NAME: number}, "pairs": {PLACE: [[number, number], ...]}}}}}, with every
/// digit, and "page" unless it is null. null is NaN, but infinity in pairs. Throws (kIo).
void write_run_record(const std::filesystem::path& file, const RunRecord& record);

/// Throws (kMissingInput, kIo), and (kCorruptData) for a file that write_run_record() does not write.
RunRecord read_run_record(const std::filesystem::path& file);

}  // namespace pastur
