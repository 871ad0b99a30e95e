#pragma once
// A run folder as `pastur report` shows it: what its files say, whatever state the run was left in.
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pastur {

/// Named columns of equal length; a value that is missing or not finite is NaN.
struct Table {
    std::vector<std::string> names;
    std::vector<std::vector<double>> columns;  ///< parallel to names

    size_t rows() const { return columns.empty() ? 0 : columns.front().size(); }
    const std::vector<double>& operator[](const std::string& name) const;
};

struct ReportRun {
    std::filesystem::path folder;
    std::string name;                    ///< the folder's, made unique among the runs of a report
    std::string config_text;             ///< config.toml; empty: absent
    nlohmann::json environment;          ///< env.json; null: absent
    nlohmann::json start, end;           ///< events; null: the run has not said so
    Table train, val;                    ///< by step, ascending
    std::vector<nlohmann::json> events;  ///< spikes and collapses, as they came
    std::vector<std::string> notes;      ///< what could not be read, for the reader of the page
};

/// Reads everything but the spectra. Lines that are no JSON object (a killed run leaves its last one cut) are
/// counted in the notes; unknown events and fields are passed over. Throws (kMissingInput) when this is no
/// run folder, (kCorruptData) when metrics.jsonl has lines but not one that can be read.
ReportRun read_report_run(const std::filesystem::path& folder);

/// Calls `use` with every line of the file that is a JSON object; returns the number of the others. A file
/// that is not there has no lines.
int64_t read_json_lines(const std::filesystem::path& file,
                        const std::function<void(const nlohmann::json&)>& use);

/// A run as people call it: the last name in its folder's absolute path.
std::string run_name(const std::filesystem::path& folder);

/// The number under `key`, NaN where there is none.
double number_of(const nlohmann::json& object, const char* key);

/// At most about `most` rows: in every stretch of rows the ones with the lowest and highest value of
/// `column`, so that a curve keeps its spikes; the first and last row always.
Table thin_table(const Table& table, const std::string& column, size_t most);

}  // namespace pastur
