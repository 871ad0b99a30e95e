#pragma once
// What the lines of a run's spectra/summary.jsonl say about each form over the steps.
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace pastur {

/// One form: a matrix of a layer or a head.
struct FormSeries {
    struct NullSample {
        double ratio = NAN;     ///< lambda_max / lambda_plus
        double outliers = NAN;  ///< outlier_count
    };
    struct Sample {
        int64_t step = 0;
        double stable_rank = NAN, kept_step0 = NAN, kept_null = NAN;
        double overlap_next = NAN, overlap_random = NAN;
        std::vector<NullSample> nulls;  ///< parallel to MatrixSeries::nulls, or shorter
    };
    std::vector<Sample> samples;  ///< of ascending steps
};

/// All forms of a matrix in one scope.
struct MatrixSeries {
    std::vector<std::string> nulls;
    std::vector<int64_t> steps;                               ///< measured for any form, ascending
    std::map<std::pair<int64_t, int64_t>, FormSeries> forms;  ///< by layer and head
};

/// Collects the lines in either form of summary_lines.h, of the matrices that the analysis is about. Of two values of
/// the same form, null and step the later one counts. Anything else in a line is skipped.
class RunSeries {
  public:
    struct Key {
        std::string matrix;
        bool per_head;
        auto operator<=>(const Key&) const = default;
    };
    void add(const nlohmann::json& line);
    /// Sorts the samples. No add() after it.
    void finish();
    const std::map<Key, MatrixSeries>& matrices() const { return matrices_; }

  private:
    std::map<Key, MatrixSeries> matrices_;
};

/// Names that RunSeries collects, in the order in which they are shown.
inline constexpr const char* kAnalysedMatrices[] = {"qk",         "qk_content", "qk_rope",
                                                    "qk_literal", "qk@mean",    "ov"};
/// The one whose capacity no rotation affects.
inline constexpr const char* kControlMatrix = "ov";
inline constexpr const char* kAnalysedNulls[] = {"product", "mp", "profile", "permuted"};

}  // namespace pastur
