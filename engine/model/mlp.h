#pragma once
// The feed-forward half of a layer: down(silu(gate x) * up x).
#include "engine/model/attention.h"
#include "engine/model/recompute.h"

namespace pastur {

/// The width that a hidden layer of `ffn` is stored and computed with: `ffn`, but a multiple of 64 where it
/// is none of 8. Rows of 5461 bf16 numbers (1b) would start anywhere, which rules out wide loads and bulk
/// copies; the columns added are zero and stay so, as silu(0) 0 = 0 gives them no gradient.
inline int64_t stored_ffn(int64_t ffn) {
    return ffn % 8 == 0 ? ffn : (ffn + 63) / 64 * 64;
}

class Mlp {
  public:
    Mlp(const Config& config, Parameters& params, const std::string& prefix);
    /// Scratch is for xn and dout given as reads_rounded() says.
    void plan(Context& ctx, Planner& planner, int64_t tokens, Recompute level);
    /// Whether xn (as x) and dout (as dy) are read rounded.
    LinearInputs reads_rounded() const {
        return {.x = gate_up_proj_.reads_rounded().x, .dy = down_proj_.reads_rounded().dy};
    }
    /// Once planned: as linear_swiglu_fallback says of the layer.
    const std::string& fallback() const { return fallback_; }
    /// out = residual + Mlp(xn) [N, C].
    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual);
    /// dxn = gradient of xn given dout of out, and that of the second matrix. Overwrites what forward() kept:
    /// once per forward(). xn must hold what forward() saw at Recompute::kFfn and above.
    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, const LinearInput& xn, Update update);
    /// The gradients of the matrices that read xn, which must hold what forward() saw: after backward().
    void backward_input_weights(Context& ctx, ConstTensor xn, Update update);

  private:
    Parameters& params_;
    int64_t width_, ffn_;  ///< C; F as stored
    Recompute level_{};    ///< as planned
    std::string fallback_;
    Linear gate_up_proj_, down_proj_;
    Tensor gate_up_;     ///< [N, 2 F]; its gradient takes its place in backward(); kept below kFfn
    Tensor activation_;  ///< [N, F]; kept at kNone, elsewhere it takes the place of its gradient
    Tensor dactivation_;
    Fp8Rows rounded_activation_, rounded_dgate_up_;  ///< within one call; empty where nobody reads them
};

}  // namespace pastur
