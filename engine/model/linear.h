#pragma once
// A linear layer without bias: a matrix [O, I] of the parameter table and the GEMMs with it, in fp8 where the
// parameters keep a copy of the matrix in fp8 (train.precision).
#include "engine/model/parameters.h"
#include "engine/model/planner.h"
#include "kernels/attention/linear_rope.h"

namespace pastur {

/// What a GEMM multiplies with the matrix: numbers [N, width] and, if the op that wrote them has quantised
/// them, the quantised rows.
struct LinearInput {
    ConstTensor numbers;
    ConstFp8Rows quantized;
    LinearInput(ConstTensor numbers, ConstFp8Rows quantized = {}) : numbers(numbers), quantized(quantized) {}
    LinearInput(Tensor numbers) : numbers(numbers) {}  // NOLINT
};

/// A property of the inputs of one or several layers.
struct LinearInputs {
    bool x = false;   ///< the input of forward
    bool dy = false;  ///< the input of backward_input
};

class Linear {
  public:
    Linear() = default;  ///< no matrix
    /// Must precede the layout of the table.
    Linear(Parameters& params, GroupId matrix)
        : params_(&params), matrix_(matrix), number_(params.offer_to_fp8(matrix)) {}

    /// The inputs that GEMMs read quantised. Given as numbers alone, they are quantised by the GEMM.
    LinearInputs reads_quantized() const { return {fp8().forward(), fp8().backward_input()}; }
    /// Memory for quantised inputs; empty where they are not read quantised.
    Fp8Rows take_quantized_x(Planner::Temporaries& temporaries, int64_t tokens) const;
    Fp8Rows take_quantized_dy(Planner::Temporaries& temporaries, int64_t tokens) const;
    /// Plans scratch. given: the inputs that will be passed quantised, where they are read quantised.
    void plan(Context& ctx, Planner& planner, int64_t tokens, LinearInputs given = {}) const;

    /// y [N, O] = x W^T (+ residual). Arguments are as in matmul.h, here and below.
    void forward(Context& ctx, Tensor y, const LinearInput& x, ConstTensor residual = {}) const;
    /// forward() without residual; true if the kernel has also rotated the outputs.
    bool forward_rotating(Context& ctx, Tensor y, const LinearInput& x, const HeadRotation& rotation) const;
    /// The matrix [O, I] in the compute dtype.
    ConstTensor weight() const { return params_->value(matrix_); }
    /// What linear_rope_fallback says of forward_rotating(); empty in fp8, whose GEMMs never rotate.
    std::string rotating_fallback(Context& ctx, int64_t head) const;
    /// dx [N, I] = or += dy W.
    void backward_input(Context& ctx, Tensor dx, const LinearInput& dy,
                        Update update = Update::kAssign) const;
    /// forward(), then swiglu_forward() (arguments: swiglu.h), in one kernel where there is one.
    void forward_swiglu(Context& ctx, Tensor out, Tensor gu, const LinearInput& x,
                        const Fp8Rows& quantized) const;
    /// backward_input() into dout, which may be out, then swiglu_backward().
    void backward_input_swiglu(Context& ctx, Tensor dgu, Tensor out, Tensor dout, const LinearInput& dy,
                               ConstTensor gu, const Fp8Rows& quantized) const;
    /// Gradient of W = or += dy^T x.
    void backward_weight(Context& ctx, ConstTensor dy, ConstTensor x, Update update) const;

  private:
    const Fp8Matrix& fp8() const { return params_->fp8().matrix(number_); }
    const Shape& shape() const { return params_->table().group(matrix_).shape; }
    Parameters* params_ = nullptr;
    GroupId matrix_{};
    size_t number_ = 0;  ///< of the matrix in Fp8Weights
};

}  // namespace pastur
