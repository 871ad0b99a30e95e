#pragma once
// The lines of spectra/summary.jsonl and of `pastur spectra --json`. One line holds a matrix of one step, with all of
// its nulls:
//     {"v": 2, "step", "layer", "head", "matrix", "n", "dims", "variance_product", "flags", "flag_meanings",
//      <metrics of the eigenvalues>, "kept_step0", "overlap_before", "overlap_next", "overlap_random",
//      "nulls": {"product": {<metrics against the null>, "terms", "kept_null", "flags"}, "mp": {...}}}
// `pastur spectra` has no step. "flag_meanings" and a null's "flags" are there only if there are any. "terms":
// [{"matrix", "dims", "variance_product"}] of a null that adds up several products.
//
// Runs of former versions have a line for each null, with "null" and all metrics in the line itself ("v": 1).
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "engine/spectra/spectrum_records.h"

namespace pastur {

/// One line for each run of records of the same matrix, layer and head, in their order. metrics_line() makes texts
/// of them.
std::vector<nlohmann::ordered_json> summary_lines(const std::vector<SpectrumRecord>& records,
                                                  std::optional<int64_t> step);

/// Calls use() with an object in the form of "v": 1 for each null of a line in either form. At most
/// kMostNullsOfLine: a damaged line has no copy for each of a million keys. Returns the number of calls.
template <typename Json, typename Use>
int for_each_null(const Json& line, const Use& use);
inline constexpr int kMostNullsOfLine = 16;

struct LoggedRecord {
    int64_t step;
    SpectrumRecord record;  ///< a metric that the line lacks, or has as null, is NaN
};
/// The records of a line in either form; none if the object is not such a line.
std::vector<LoggedRecord> read_records(const nlohmann::ordered_json& line);

template <typename Json, typename Use>
int for_each_null(const Json& line, const Use& use) {
    if (!line.is_object()) return 0;
    const auto nulls = line.find("nulls");
    if (nulls == line.end()) {
        use(line);
        return 1;
    }
    if (!nulls->is_object()) return 0;
    Json shared = line;
    shared.erase("nulls");
    int calls = 0;
    for (const auto& [name, own] : nulls->items()) {
        if (!own.is_object() || calls == kMostNullsOfLine) break;
        Json flat = shared;
        flat["null"] = name;
        for (const auto& [key, value] : own.items())
            if (key != "flags") flat[key] = value;
        if (const auto flags = own.find("flags"); flags != own.end() && flags->is_array())
            for (const Json& flag : *flags)
                if (flat["flags"].is_array()) flat["flags"].push_back(flag);
        use(flat);
        ++calls;
    }
    return calls;
}

}  // namespace pastur
