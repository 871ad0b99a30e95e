#pragma once
// The spikes and collapses of a run, from metrics.jsonl, as one small grid for each kind, matrix, null and threshold.
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <tuple>

#include "tools/pastur/report/report_blobs.h"

namespace pastur {

class Onsets {
  public:
    /// Takes an event of metrics.jsonl (engine/spectra/spectral_events.h); of two of one place the later one counts.
    /// Runs of former versions have no "onset" and no "threshold": the step and 0 replace them. Ignores an event that
    /// lacks its place, and what is beyond the bounds that a page can hold.
    void add(const nlohmann::json& event);
    bool empty() const { return grids_.empty(); }

    /// The onsets of whole layers: {"spike"|"collapse": {MATRIX: {NULL: {THRESHOLD: [step or null by layer]}}}}, with "" as
    /// the null of a collapse.
    nlohmann::ordered_json of_layers() const;
    /// Adds what of_layers() returned. Throws (nlohmann::json::exception) for any other value.
    void add_layers(const nlohmann::ordered_json& onsets);

    /// [{"kind": "spike"|"collapse", "matrix", "null", "threshold", "layers", "heads", "steps", "blob"}]. The null of a
    /// collapse is "", because no null affects it. "heads" begins with -1 where whole layers have onsets. The blob
    /// (pack_numbers) holds [layers][heads] indices into "steps"; NaN: no onset.
    nlohmann::ordered_json json(Blobs& blobs) const;

  private:
    using Key = std::tuple<std::string, std::string, std::string, double>;  ///< kind, matrix, null, threshold
    using Place = std::pair<int64_t, int64_t>;                              ///< layer, head
    std::map<Key, std::map<Place, int64_t>> grids_;
};

}  // namespace pastur
