#pragma once
// The figures of a run that `compare` and `study` show.
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/pastur/runs/run_summary.h"

namespace pastur {

/// A figure of a run: its key in JSON, CSV and --sort, and its column in a table.
struct RunColumn {
    const char* key;
    const char* head;  ///< null: only in JSON and CSV
    std::function<std::string(const RunSummary&)> text;
    std::function<double(const RunSummary&)> number;  ///< null: text() is the value
    bool is_result =
        true;  ///< false: time, memory and state, which another run of the same recipe does not repeat

    /// A text, an integer, a number, or null for a number that the run does not have.
    nlohmann::ordered_json json(const RunSummary& run) const;
};
const std::vector<RunColumn>& run_columns();

}  // namespace pastur
