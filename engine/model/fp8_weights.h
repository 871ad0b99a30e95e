#pragma once
// Copies of the weights for GEMMs in fp8, quantised again after every update.
#include <optional>
#include <string>
#include <vector>

#include "engine/model/planner.h"
#include "kernels/fp8.h"

namespace pastur {

/// The fp8 copies of a matrix W [O, I]; empty for GEMMs that are not in fp8.
struct Fp8Matrix {
    Fp8Rows rows;           ///< [O, I], for y = x W^T
    Fp8Rows columns;        ///< [I, O], for dx = dy W
    bool gradient = false;  ///< dW = dy^T x is in fp8 for micro-batches of a multiple of 16 tokens
    bool forward() const { return !rows.empty(); }
    bool backward_input() const { return !columns.empty(); }
    bool backward_weight(int64_t tokens) const { return gradient && tokens % 16 == 0; }
};

/// Which GEMMs are in fp8.
struct Fp8Rules {
    int64_t min_outputs;        ///< forward and input gradient: at least this many outputs
    int64_t min_gradient_side;  ///< weight gradient: both sides of the matrix at least this long
};

class Fp8Weights {
  public:
    /// Without rules no GEMM is in fp8.
    explicit Fp8Weights(std::optional<Fp8Rules> rules) : rules_(rules) {}

    /// Adds a matrix, before allocate(), and returns its number.
    size_t add(const Shape& shape);
    /// Bytes that allocate() will take.
    int64_t bytes() const;
    void allocate(Context& ctx);
    /// The copies are those of `owner`, of the same matrices, which is allocated and outlives this object.
    void share(const Fp8Weights& owner) { matrices_ = owner.matrices_; }
    /// The copies of matrix `number` = its weights, f32 or bf16 [O, I], quantised.
    void refresh(Context& ctx, size_t number, ConstTensor weights);
    const Fp8Matrix& matrix(size_t number) const { return matrices_[number]; }

    /// A line about how many GEMMs are in fp8 and why others are not; empty without rules.
    std::string describe() const;

  private:
    bool wide_enough(int64_t outputs) const { return rules_ && outputs >= rules_->min_outputs; }
    bool gradient_pays(const Shape& shape) const;
    Fp8Matrix plan(Planner& planner, const Shape& shape) const;
    std::optional<Fp8Rules> rules_;
    std::vector<Shape> shapes_;
    std::vector<Fp8Matrix> matrices_;
    Buffer buffer_;
};

}  // namespace pastur
