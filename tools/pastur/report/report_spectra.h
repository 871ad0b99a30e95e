#pragma once
// The spectra/ folder of a run as grids: summary.jsonl (metrics) and step_*.npz (eigenvalues).
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pastur {

/// The metrics of one matrix against one null, of layers or of single heads.
struct MetricGrid {
    std::string matrix, null;
    bool per_head = false;
    /// Dimensions of the products whose sum the null is the law of; {rows, cols} for mp; none: no law in closed form.
    std::vector<std::vector<int64_t>> chains;
    std::vector<int64_t> steps, layers, heads;          ///< ascending; heads: {-1} unless per_head
    std::map<std::string, std::vector<float>> metrics;  ///< steps x layers x heads; NaN: no such record
    /// The variance product of each chain: steps x layers x heads. Empty where there is only one chain.
    std::vector<std::vector<float>> variances;
    std::vector<nlohmann::ordered_json>
        flagged;  ///< {step, layer, head, flags} of the records that have flags
};

/// Reads summary.jsonl; no file, no grids. Of two records of the same cell the later holds. Unreadable lines
/// and records without their keys are counted in `notes`. Throws (kCorruptData) when the records are too
/// scattered to be a grid.
std::vector<MetricGrid> read_metric_grids(const std::filesystem::path& spectra,
                                          std::vector<std::string>& notes);

/// The same grid at these of its steps.
MetricGrid at_steps(const MetricGrid& grid, const std::vector<int64_t>& steps);

/// Where the eigenvalues of one matrix lie, and how many there are.
struct EigenvalueGroup {
    std::string matrix;
    bool per_head = false;
    std::vector<int64_t> layers;
    int64_t heads = 1, n = 0;
    int64_t values_per_step() const { return static_cast<int64_t>(layers.size()) * heads * n; }
};

class EigenvalueFiles {
  public:
    /// Looks at the folder and at its newest file; no folder, no steps. Throws (kCorruptData).
    explicit EigenvalueFiles(const std::filesystem::path& spectra);

    const std::vector<int64_t>& steps() const { return steps_; }
    const std::vector<EigenvalueGroup>& groups() const { return groups_; }
    /// The group at a step: layers x heads x n, NaN where the file lacks an array. Throws (kCorruptData).
    std::vector<double> read(const EigenvalueGroup& group, int64_t step) const;

  private:
    std::map<int64_t, std::filesystem::path> files_;
    std::vector<int64_t> steps_;
    std::vector<EigenvalueGroup> groups_;
};

/// Spectra of n eigenvalues each, at about a byte a value: the largest as float32 (NaN for a spectrum that is
/// not finite, which has nothing more), then n - 1 distances between the levels of neighbours as LEB128.
/// Level round(65535 (1 + ln(lambda / largest) / ln 1e12)), 0 where lambda is at most 1e-12 of the largest:
/// the values are within 2.2e-4 of themselves.
std::string pack_spectra(const std::vector<double>& values, int64_t n);

/// `count` of the values, evenly spread, the first and the last among them; all when there are no more.
std::vector<int64_t> spread(const std::vector<int64_t>& values, size_t count);

}  // namespace pastur
