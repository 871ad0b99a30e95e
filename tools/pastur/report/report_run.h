#pragma once
// The contents of a run folder for `pastur report`, complete or not.
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/pastur/report/report_onsets.h"

namespace pastur {

/// Named columns of equal length. A missing or non-finite value is NaN.
struct Table {
    std::vector<std::string> names;
    std::vector<std::vector<double>> columns;  ///< parallel to names

    size_t rows() const { return columns.empty() ? 0 : columns.front().size(); }
    const std::vector<double>& operator[](const std::string& name) const;
};

struct ReportRun {
    std::filesystem::path folder;
    std::string name;                ///< the folder's, made unique among the runs of a report
    bool is_record = false;          ///< drawn from statistics.json, without log and spectra
    std::string config_text;         ///< config.toml; empty: absent
    nlohmann::json environment;      ///< env.json; null: absent
    nlohmann::json start, end;       ///< the events of that name; null: not logged
    Table train, val;                ///< by step, ascending
    Onsets onsets;                   ///< spikes and collapses
    std::vector<std::string> notes;  ///< what could not be read, in words for the page
};

/// Reads everything but the spectra. The notes count lines that are not a JSON object, such as the last line
/// of a killed run; unknown events and fields are skipped. Throws (kMissingInput) if the folder is not a run
/// folder, and (kCorruptData) if metrics.jsonl has lines but none of them can be read.
ReportRun read_report_run(const std::filesystem::path& folder);

/// The text of config.toml or env.json; if it is missing, none and a note.
std::string read_run_text(const std::filesystem::path& file, ReportRun& run);

/// Calls `use` with every line of the file that is a JSON object of at most kMaxJsonBytes and returns the number of
/// other lines. A missing file has no lines.
int64_t read_json_lines(const std::filesystem::path& file,
                        const std::function<void(const nlohmann::json&)>& use);

/// A run as people call it: the last name in its folder's absolute path.
std::string run_name(const std::filesystem::path& folder);

/// The number under `key`; NaN if there is none.
double number_of(const nlohmann::json& object, const char* key);

/// At most about `most` rows: the first, the last, and in every stretch of rows those with the lowest and
/// highest value of `column`, so a curve keeps its spikes.
Table thin_table(const Table& table, const std::string& column, size_t most);

}  // namespace pastur
