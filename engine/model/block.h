#pragma once
// One transformer layer: x += attention(norm(x)); x += mlp(norm(x)).
#include "engine/model/mlp.h"

namespace pastur {

/// Memory the layers take turns with.
struct SharedActivations {
    Tensor xn;   ///< [N, C]: a normalised input, where layers make it again on their own (Recompute::kNorms,
                 ///< kFfn)
    Tensor dxn;  ///< [N, C]: its gradient
    /// [N, C]: what a normalised input and the residual stream's gradient are rounded to; empty where nobody
    /// reads them so.
    Fp8Rows rounded_xn, rounded_dx;
};

class Block {
  public:
    Block(const Config& config, Parameters& params, int64_t layer);
    void plan_input(Planner& planner, const BatchShape& shape);
    /// Everything but the input. last: the layer whose backward() follows its forward() directly.
    void plan(Context& ctx, Planner& planner, const BatchShape& shape, Recompute level,
              const SharedActivations& shared, bool last);
    /// Whether a half reads its normalised input (as x) or the residual stream's gradient (as dy) rounded.
    LinearInputs reads_rounded() const;
    /// Where backward() reads what its dx is rounded to on entry: the caller fills it, unless it is empty.
    Fp8Rows rounded_output_gradient() const { return rounded_dx(mlp_.reads_rounded()); }
    /// Where the layer reads its input [N, C]: the previous layer (or the embedding) writes it there.
    Tensor input() const { return x_; }
    void forward(Context& ctx, Tensor out, ConstTensor rope_table);
    /// dx [N, C]: gradient of the output on entry, of the input on return; rounded, where anybody reads it
    /// so, in rounded_output_gradient() of this layer and the one below. Once per forward().
    void backward(Context& ctx, Tensor dx, ConstTensor rope_table, Update update);
    const Attention& attention() const { return *attention_; }
    const Mlp& mlp() const { return mlp_; }
    /// Where the layer's matrices begin in the flat buffers, behind those of the layers before it.
    int64_t first_matrix_offset() const;

  private:
    /// The RMS norm before one half of the layer.
    struct Norm {
        GroupId weight;
        Tensor xn;    ///< [N, C]
        Tensor rstd;  ///< f32 [N]
    };
    void plan_kept(Context& ctx, Planner& planner, const BatchShape& shape);
    /// Up to what the MLP reads.
    void forward_attention_half(Context& ctx, ConstTensor rope_table);
    /// for_half: what the half that follows reads rounded.
    void forward_norm(Context& ctx, const Norm& norm, ConstTensor x, LinearInputs for_half);
    /// again: where xn is made again on the way, or empty. rounded: of dx, or empty.
    void backward_norm(Context& ctx, const Norm& norm, Tensor dx, Tensor again, ConstTensor x, Update update,
                       const Fp8Rows& rounded);
    Fp8Rows rounded_xn(LinearInputs half) const { return half.x ? shared_.rounded_xn : Fp8Rows(); }
    Fp8Rows rounded_dx(LinearInputs half) const { return half.dy ? shared_.rounded_dx : Fp8Rows(); }

    Parameters& params_;
    int64_t layer_, width_;
    float eps_;
    Recompute level_{};  ///< as planned
    bool last_ = false;
    Norm attention_norm_, mlp_norm_;
    std::unique_ptr<Attention> attention_;
    Mlp mlp_;
    SharedActivations shared_;
    Tensor x_, x_mid_;  ///< [N, C]: the residual stream before each half
};

}  // namespace pastur
