#pragma once
// A linear layer without bias: a matrix [O, I] of the parameter table and the products with it, in fp8 where
// the parameters keep it so (train.precision).
#include "engine/model/parameters.h"
#include "engine/model/planner.h"
#include "kernels/linear_rope.h"

namespace pastur {

/// What a product multiplies with the matrix: numbers [N, width] and, where whoever made them has done that,
/// what they are rounded to.
struct LinearInput {
    ConstTensor numbers;
    ConstFp8Rows rounded;
    LinearInput(ConstTensor numbers, ConstFp8Rows rounded = {}) : numbers(numbers), rounded(rounded) {}
    LinearInput(Tensor numbers) : numbers(numbers) {}  // NOLINT
};

/// Which inputs of one or several layers are meant.
struct LinearInputs {
    bool x = false;   ///< of forward
    bool dy = false;  ///< of backward_input
};

class Linear {
  public:
    Linear() = default;  ///< none
    /// Before the table is laid out.
    Linear(Parameters& params, GroupId matrix)
        : params_(&params), matrix_(matrix), number_(params.offer_to_fp8(matrix)) {}

    /// Those that are read rounded: given as numbers alone, the product rounds them itself.
    LinearInputs reads_rounded() const { return {fp8().forward(), fp8().backward_input()}; }
    /// Memory for such, or nothing where they are not read so.
    Fp8Rows take_rounded_x(Planner::Temporaries& temporaries, int64_t tokens) const;
    Fp8Rows take_rounded_dy(Planner::Temporaries& temporaries, int64_t tokens) const;
    /// Plans scratch. given: the inputs that will be there rounded, where they are read so.
    void plan(Context& ctx, Planner& planner, int64_t tokens, LinearInputs given = {}) const;

    /// y [N, O] = x W^T (+ residual); the arguments as in matmul.h, here and below.
    void forward(Context& ctx, Tensor y, const LinearInput& x, ConstTensor residual = {}) const;
    /// The same without residual; true where the kernel that did it has rotated the outputs as well.
    bool forward_rotating(Context& ctx, Tensor y, const LinearInput& x, const HeadRotation& rotation) const;
    /// As linear_rope_fallback says of it; empty in fp8, whose products never rotate.
    std::string rotating_fallback(Context& ctx, int64_t head) const;
    /// dx [N, I] = or += dy W.
    void backward_input(Context& ctx, Tensor dx, const LinearInput& dy,
                        Update update = Update::kAssign) const;
    /// forward() and swiglu_forward() (swiglu.h, which has the arguments), in one kernel where there is one.
    void forward_swiglu(Context& ctx, Tensor out, Tensor gu, const LinearInput& x,
                        const Fp8Rows& rounded) const;
    /// backward_input() into dout, which may be out, and swiglu_backward().
    void backward_input_swiglu(Context& ctx, Tensor dgu, Tensor out, Tensor dout, const LinearInput& dy,
                               ConstTensor gu, const Fp8Rows& rounded) const;
    /// gradient of W = or += dy^T x.
    void backward_weight(Context& ctx, ConstTensor dy, ConstTensor x, Update update) const;

  private:
    const Fp8Matrix& fp8() const { return params_->fp8().matrix(number_); }
    const Shape& shape() const { return params_->table().group(matrix_).shape; }
    Parameters* params_ = nullptr;
    GroupId matrix_{};
    size_t number_ = 0;  ///< as fp8() counts matrices
};

}  // namespace pastur
