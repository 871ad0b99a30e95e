#pragma once
// Reference spectra: dense matrices in double and their singular values by LAPACK.
#include <string>
#include <vector>

#include "engine/config/config.h"
#include "tests/support/model_harness.h"

namespace pastur::test {

/// A dense row-major matrix.
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

/// The min(rows, columns) squared singular values, descending.
std::vector<double> squared_singular_values(const Dense& matrix);

/// The named weights of one model as matrices [in, out].
class DenseWeights {
  public:
    DenseWeights(const Config& config, const NamedValues& weights) : config_(config), weights_(weights) {}

    /// The matrix of a name (qk, qk_content, qk_rope, qk_literal, qk@i,j, ov) of a head. Head -1 is the sum over all
    /// heads; for qk_literal it is the matrix of all rows.
    Dense matrix(const std::string& name, int64_t layer, int64_t head) const;

  private:
    /// The d x w matrix that maps x to a head's queries or keys. part: "", "_content" or "_rope".
    Dense query(const std::string& part, int64_t layer, int64_t head) const;
    Dense key(const std::string& part, int64_t layer, int64_t head) const;
    /// The form between a query at position i and a key at position j, both rotated.
    Dense at_positions(int64_t layer, int64_t head, int64_t i, int64_t j) const;
    /// W_V^h W_O^h.
    Dense ov(int64_t layer, int64_t head) const;
    bool has(int64_t layer, const std::string& name) const;
    /// The weight model.layers.<layer>.self_attn.<name>, [in, out].
    Dense weight(int64_t layer, const std::string& name, int64_t in) const;
    /// A map to heads with columns scaled by the norm over each head's vector.
    Dense normed(int64_t layer, const std::string& norm, Dense map) const;
    /// The matrix with rows scaled by a norm's gain.
    Dense gained(int64_t layer, const std::string& norm, Dense matrix) const;

    const Config& config_;
    const NamedValues& weights_;
};

}  // namespace pastur::test
