#pragma once
// The spectra/ folder of a run as grids: summary.jsonl (metrics) and step_*.npz (eigenvalues).
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace pastur {

/// The metrics of one matrix against one null, for whole layers or for heads.
struct MetricGrid {
    std::string matrix, null;
    bool per_head = false;
    /// The null is the law of a sum of products with these dimensions; {rows, cols} for mp. Empty: no closed
    /// law.
    std::vector<std::vector<int64_t>> chains;
    std::vector<int64_t> steps, layers, heads;          ///< ascending; heads: {-1} unless per_head
    std::map<std::string, std::vector<float>> metrics;  ///< [steps][layers][heads]; NaN: no such record
    /// The variance product of each chain, [steps][layers][heads]. Empty if there is only one chain.
    std::vector<std::vector<float>> variances;
    std::map<std::string, int64_t> flags;  ///< numbers of records with each flag
};

/// Collects lines of a summary.jsonl. Of two records of one cell the later one counts.
class MetricRecords {
  public:
    MetricRecords();
    ~MetricRecords();
    MetricRecords(const MetricRecords&) = delete;
    MetricRecords& operator=(const MetricRecords&) = delete;

    /// False if the line, or a null in it, lacks its keys or has one matrix or null too many.
    bool add(const nlohmann::json& line);
    /// The records as grids, which hold them from then on. Throws (kCorruptData), naming the file, if they are too scattered
    /// for a grid.
    std::vector<MetricGrid> take_grids(const std::filesystem::path& file);

  private:
    struct Grids;
    std::unique_ptr<Grids> grids_;
};

/// Reads summary.jsonl and calls use_line, if there is one, with every line of it; a missing file has no grids. `notes`
/// gets the number of unreadable lines and of records without their keys. Throws as MetricRecords::take_grids().
std::vector<MetricGrid> read_metric_grids(const std::filesystem::path& spectra,
                                          std::vector<std::string>& notes,
                                          const std::function<void(const nlohmann::json&)>& use_line = {});

/// The grid at some of its steps.
MetricGrid at_steps(const MetricGrid& grid, const std::vector<int64_t>& steps);

/// The eigenvalues of one matrix in a step's file.
struct EigenvalueGroup {
    std::string matrix;
    bool per_head = false;
    std::vector<int64_t> layers;
    int64_t heads = 1, n = 0;
    int64_t values_per_step() const { return static_cast<int64_t>(layers.size()) * heads * n; }
};

class EigenvalueFiles {
  public:
    /// Lists the folder and reads the names in its newest file; a missing folder has no steps. Throws
    /// (kCorruptData).
    explicit EigenvalueFiles(const std::filesystem::path& spectra);

    const std::vector<int64_t>& steps() const { return steps_; }
    const std::vector<EigenvalueGroup>& groups() const { return groups_; }
    /// The group at a step, [layers][heads][n]; NaN where the file lacks an array. Throws (kCorruptData).
    std::vector<double> read(const EigenvalueGroup& group, int64_t step) const;

  private:
    std::map<int64_t, std::filesystem::path> files_;
    std::vector<int64_t> steps_;
    std::vector<EigenvalueGroup> groups_;
};

/// Packs spectra of n eigenvalues each into about a byte per value: the largest one as float32, then n - 1
/// differences between the levels of neighbours as LEB128. A level is round(65535 (1 + ln(lambda / largest) /
/// ln 1e12)), or 0 where lambda is at most 1e-12 of the largest, so the relative error is at most 2.2e-4. A
/// spectrum that is not finite is a NaN alone.
std::string pack_spectra(const std::vector<double>& values, int64_t n);

/// `count` of the values, evenly spread and including the first and the last; all of them if there are no
/// more.
std::vector<int64_t> spread(const std::vector<int64_t>& values, size_t count);

}  // namespace pastur
