#pragma once
// The feed-forward half of a layer: down(silu(gate x) * up x).
#include "engine/model/attention/attention.h"
#include "engine/model/recompute.h"

namespace pastur {

/// The width in which a hidden layer of `ffn` columns is stored and computed: `ffn`, rounded up to a multiple
/// of 64 unless it is a multiple of 8. Rows of 5461 bf16 numbers (1b) start unaligned, which rules out wide
/// loads and TMA. The added columns are zero and stay zero, because silu(0) 0 = 0 gives them no gradient.
inline int64_t stored_ffn(int64_t ffn) {
    return ffn % 8 == 0 ? ffn : (ffn + 63) / 64 * 64;
}

class Mlp {
  public:
    Mlp(const Config& config, Parameters& params, const std::string& prefix);
    /// Scratch is planned for xn and dout quantised as reads_quantized() says.
    void plan(Context& ctx, Planner& planner, int64_t tokens, Recompute level);
    /// Whether GEMMs read xn (as x) and dout (as dy) quantised.
    LinearInputs reads_quantized() const {
        return {.x = gate_up_proj_.reads_quantized().x, .dy = down_proj_.reads_quantized().dy};
    }
    /// After plan(): what linear_swiglu_fallback says of the layer.
    const std::string& fallback() const { return fallback_; }
    /// out = residual + Mlp(xn) [N, C].
    void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual);
    /// dxn = gradient of xn given dout of out; the gradient of down_proj is = or +=. Overwrites what
    /// forward() kept, so it runs once per forward(). At Recompute::kFfn and above xn must hold what
    /// forward() saw.
    void backward(Context& ctx, Tensor dxn, const LinearInput& dout, const LinearInput& xn, Update update);
    /// After backward(): the gradients of the matrices that read xn, which must hold what forward() saw.
    void backward_input_weights(Context& ctx, ConstTensor xn, Update update);

  private:
    Parameters& params_;
    int64_t width_, ffn_;  ///< C; F as stored
    Recompute level_{};    ///< as planned
    std::string fallback_;
    Linear gate_up_proj_, down_proj_;
    Tensor gate_up_;     ///< [N, 2 F]; backward() overwrites it with its gradient; kept below kFfn
    Tensor activation_;  ///< [N, F]; kept at kNone; at other levels it shares memory with dactivation_
    Tensor dactivation_;
    /// Within one call; empty where no GEMM reads them.
    Fp8Rows quantized_activation_, quantized_dgate_up_;
};

}  // namespace pastur
