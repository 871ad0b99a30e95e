#pragma once
// Spectra the direct way: every matrix formed densely in double, its singular values by LAPACK.
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "tests/support/model_harness.h"

namespace pastur::test {

/// Row-major.
struct Dense {
    int64_t rows = 0, columns = 0;
    std::vector<double> values;

    double& at(int64_t i, int64_t j) { return values[static_cast<size_t>(i * columns + j)]; }
    double at(int64_t i, int64_t j) const { return values[static_cast<size_t>(i * columns + j)]; }
    Dense transposed() const;
    Dense row_slice(int64_t begin, int64_t count) const;
};
Dense operator*(const Dense& a, const Dense& b);
Dense operator+(const Dense& a, const Dense& b);

/// Squared singular values, descending, min(rows, columns) of them.
std::vector<double> squared_singular_values(const Dense& matrix);

/// Named weights of one model, with their shapes, as VARIANTS writes the maths: W is [in, out].
class DenseWeights {
  public:
    DenseWeights(const Config& config, const NamedValues& weights) : config_(config), weights_(weights) {}

    /// The matrix of a name (qk, qk_content, qk_rope, qk_literal) for a head, or summed over heads (-1;
    /// literal: of all rows).
    Dense matrix(const std::string& name, int64_t layer, int64_t head) const;

  private:
    /// One head's d x w maps by which x makes queries and keys; part: "", "_content" or "_rope".
    Dense query(const std::string& part, int64_t layer, int64_t head) const;
    Dense key(const std::string& part, int64_t layer, int64_t head) const;
    /// W of model.layers.<layer>.self_attn.<name>, [in, out].
    Dense weight(int64_t layer, const std::string& name, int64_t in) const;
    /// Rows scaled by a norm's gain.
    Dense gained(int64_t layer, const std::string& norm, Dense matrix) const;

    const Config& config_;
    const NamedValues& weights_;
};

}  // namespace pastur::test
