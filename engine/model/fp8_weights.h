#pragma once
// The matrices that products in fp8 read: copies of the weights, rounded again after every update.
#include <optional>
#include <string>
#include <vector>

#include "engine/model/planner.h"
#include "kernels/fp8.h"

namespace pastur {

/// A matrix [O, I], for those of its products that are in fp8.
struct Fp8Matrix {
    Fp8Rows rows;           ///< [O, I], for y = x W^T
    Fp8Rows columns;        ///< [I, O], for dx = dy W
    bool gradient = false;  ///< whether dW = dy^T x is one, of micro-batches of a multiple of 16 tokens
    bool forward() const { return !rows.empty(); }
    bool backward_input() const { return !columns.empty(); }
    bool backward_weight(int64_t tokens) const { return gradient && tokens % 16 == 0; }
};

/// Which products take part.
struct Fp8Rules {
    int64_t min_outputs;  ///< forward products and input gradients: those of so many outputs or more
    int64_t
        min_gradient_side;  ///< weight gradients: those of matrices whose sides are both as long or longer
};

class Fp8Weights {
  public:
    /// No rules: no product takes part.
    explicit Fp8Weights(std::optional<Fp8Rules> rules) : rules_(rules) {}

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
    bool wide_enough(int64_t outputs) const { return rules_ && outputs >= rules_->min_outputs; }
    bool gradient_pays(const Shape& shape) const;
    Fp8Matrix plan(Planner& planner, const Shape& shape) const;
    std::optional<Fp8Rules> rules_;
    std::vector<Shape> shapes_;
    std::vector<Fp8Matrix> matrices_;
    Buffer buffer_;
};

}  // namespace pastur
