#pragma once
// One transformer layer: x += attention(norm(x)); x += mlp(norm(x)).
#include "engine/model/mlp.h"

namespace pastur {

/// Scratch activations shared by all layers.
struct SharedActivations {
    Tensor xn;  ///< [N, C]: a normalised input that backward recomputes (Recompute::kNorms, kFfn); else empty
    Tensor dxn;  ///< [N, C]: its gradient
    /// [N, C]: a normalised input and the residual stream's gradient, quantised; empty where no GEMM reads
    /// them quantised.
    Fp8Rows quantized_xn, quantized_dx;
};

class Block {
  public:
    Block(const Config& config, Parameters& params, int64_t layer);
    void plan_input(Planner& planner, const BatchShape& shape);
    /// Plans everything but the input. last: this layer's backward() follows its forward() directly.
    void plan(Context& ctx, Planner& planner, const BatchShape& shape, Recompute level,
              const SharedActivations& shared, bool last);
    /// Whether a half of the layer reads its normalised input (as x) or the residual stream's gradient (as
    /// dy) quantised.
    LinearInputs reads_quantized() const;
    /// From here backward() reads its dx on entry, quantised: the caller fills it, unless it is empty.
    Fp8Rows quantized_output_gradient() const { return quantized_dx(mlp_.reads_quantized()); }
    /// The layer's input [N, C]: the previous layer (or the embedding) writes it here.
    Tensor input() const { return x_; }
    void forward(Context& ctx, Tensor out, ConstTensor rope_table);
    /// dx [N, C]: gradient of the output on entry, of the input on return. Where GEMMs read it quantised,
    /// that is in quantized_output_gradient() of this layer on entry, of the layer below on return. Once per
    /// forward().
    void backward(Context& ctx, Tensor dx, ConstTensor rope_table, Update update);
    /// For passes of shape {1, B}, after plan(); see Attention.
    void plan_decode(Context& ctx, Planner& planner, const LayerCache& cache) {
        attention_->plan_decode(ctx, planner, cache);
    }
    void prepare_decode(Context& ctx) { attention_->prepare_decode(ctx); }
    /// forward() of one token of each sequence against the cache, to which it is appended.
    void decode(Context& ctx, Tensor out, const DecodeStep& step, const LayerCache& cache);
    const Attention& attention() const { return *attention_; }
    void track_max_logit(Tensor max_logit) { attention_->track_max_logit(max_logit); }
    /// Before plan(); see Attention.
    void mask_documents(const DocumentBounds& documents) { attention_->mask_documents(documents); }
    const Mlp& mlp() const { return mlp_; }
    /// Where the layer's matrices begin in the flat buffers; those of earlier layers lie before them.
    int64_t first_matrix_offset() const;

  private:
    /// The RMS norm before one half of the layer.
    struct Norm {
        GroupId weight;
        Tensor xn;    ///< [N, C]
        Tensor rstd;  ///< f32 [N]
    };
    void plan_kept(Context& ctx, Planner& planner, const BatchShape& shape);
    /// Computes everything up to the MLP's input.
    void forward_attention_half(Context& ctx, ConstTensor rope_table);
    /// half: what the half that reads this norm reads quantised.
    void forward_norm(Context& ctx, const Norm& norm, ConstTensor x, LinearInputs half);
    /// recomputed_xn: receives xn, unless it is empty. quantized_dx: receives dx quantised, unless it is
    /// empty.
    void backward_norm(Context& ctx, const Norm& norm, Tensor dx, Tensor recomputed_xn, ConstTensor x,
                       Update update, const Fp8Rows& quantized_dx);
    Fp8Rows quantized_xn(LinearInputs half) const { return half.x ? shared_.quantized_xn : Fp8Rows(); }
    Fp8Rows quantized_dx(LinearInputs half) const { return half.dy ? shared_.quantized_dx : Fp8Rows(); }

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
