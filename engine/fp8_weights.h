#pragma once
// The matrices that products in fp8 read: copies of the weights, rounded again after every update.
#include <optional>
#include <string>
#include <vector>

#include "engine/planner.h"
#include "kernels/fp8.h"

namespace pastur {

/// A matrix [O, I], for those of its products that are in fp8.
struct Fp8Matrix {
    Fp8Rows rows;     ///< [O, I], for y = x W^T
    Fp8Rows columns;  ///< [I, O], for dx = dy W
    bool forward() const { return !rows.empty(); }
    bool backward_input() const { return !columns.empty(); }
};

class Fp8Weights {
  public:
    /// min_outputs: a product takes part from so many outputs on; none: no product does.
    explicit Fp8Weights(std::optional<int64_t> min_outputs) : min_outputs_(min_outputs) {}

    /// While a model is built: another matrix, whose number is returned.
    size_t add(const Shape& shape);
    /// Bytes that allocate() takes.
    int64_t bytes() const;
    void allocate(Context& ctx);
    /// The copies of matrix `number` = its weights, f32 or bf16 [O, I], rounded.
    void refresh(Context& ctx, size_t number, ConstTensor weights);
    const Fp8Matrix& matrix(size_t number) const { return matrices_[number]; }

    /// How many products are in fp8, and why others are not: a line, empty where none is meant to be.
    std::string describe() const;

  private:
    bool wide_enough(int64_t outputs) const { return min_outputs_ && outputs >= *min_outputs_; }
    Fp8Matrix plan(Planner& planner, const Shape& shape) const;
    std::optional<int64_t> min_outputs_;
    std::vector<Shape> shapes_;
    std::vector<Fp8Matrix> matrices_;
    Buffer buffer_;
};

}  // namespace pastur
