#pragma once
// The research axis: what happens between the normalised input of a layer and its attention output.
#include <memory>
#include <string>

#include "engine/config/config.h"
#include "engine/model/batch_shape.h"
#include "engine/model/linear.h"
#include "engine/model/variants.h"
#include "kernels/base/context.h"
#include "kernels/causal_attention.h"

namespace pastur {

/// One layer's attention. Implementations add their tensors to the parameter table when built, describe their
/// memory in plan(), keep in forward() what backward() needs, and never allocate.
class Attention {
  public:
    virtual ~Attention() = default;
    /// Scratch is for xn and dout given as reads_rounded() says.
    virtual void plan(Context& ctx, Planner& planner, const BatchShape& shape) = 0;
    /// Whether xn (as x) and dout (as dy) are read rounded.
    virtual LinearInputs reads_rounded() const = 0;
    /// out = residual + Attention(xn) [N, C]. xn [N, C] is the RMS-normalised input; rope_table as rope.h
    /// says, its width rope_width().
    virtual void forward(Context& ctx, Tensor out, const LinearInput& xn, ConstTensor residual,
                         ConstTensor rope_table) = 0;
    /// dxn = gradient of xn given dout [N, C] of out (the residual's share of it is the caller's). Weight
    /// gradients are = or += as `update` says: all but those of the matrices that read xn.
    virtual void backward(Context& ctx, Tensor dxn, const LinearInput& dout, ConstTensor rope_table,
                          Update update) = 0;
    /// Those, after backward(). xn must hold what forward() saw: apart, so that the backward pass of the
    /// norm, which comes between the two, may make it again.
    virtual void backward_input_weights(Context& ctx, ConstTensor xn, ConstTensor rope_table,
                                        Update update) = 0;
    /// Once planned: lines that causal_attention_fallback says of the core, and linear_rope_fallback of the
    /// rotation.
    const std::string& fallback() const { return fallback_; }

  protected:
    /// What the core's kernels need.
    void plan_kernels(Context& ctx, Planner& planner, const AttentionInputs& in);
    /// How the product that makes heads of `head` columns, to be rotated, does it (Linear::forward_rotating).
    void plan_rotation(Context& ctx, const Linear& product, int64_t head);

  private:
    std::string fallback_;
};

/// For VariantInfo::make.
template <typename T>
std::unique_ptr<Attention> make_attention(const Config& config, Parameters& params,
                                          const std::string& prefix) {
    return std::make_unique<T>(config, params, prefix);
}

}  // namespace pastur
