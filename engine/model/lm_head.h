#pragma once
// Final norm's output -> logits -> cross-entropy -> gradient, one slice of tokens at a time: the logits of a
// whole batch are never in memory, in any precision.
#include "engine/model/attention/attention.h"

namespace pastur {

class LmHead {
  public:
    /// weight [V, C]: its own tensor, or the embedding's when tied.
    LmHead(const Config& config, Parameters& params, GroupId weight);
    void plan(Planner& planner, int64_t tokens);
    /// Tokens per slice, of `tokens` in all.
    static int64_t slice_tokens(int64_t vocab, DType dtype, int64_t tokens);
    /// losses f32 [N] = cross-entropy of x W^T against targets i32 [N].
    void forward(Context& ctx, Tensor losses, ConstTensor x, ConstTensor targets);
    /// forward(), and dx [N, C] = scale * gradient of sum(losses). The weight's gradient is = or +=.
    void forward_backward(Context& ctx, Tensor losses, Tensor dx, ConstTensor x, ConstTensor targets,
                          float scale, Update update);
    /// logits [N, V] of x [N, C], for tests and sampling; the caller owns their memory.
    void logits(Context& ctx, Tensor logits, ConstTensor x);

  private:
    Parameters& params_;
    int64_t vocab_;
    GroupId weight_;
    int64_t slice_tokens_ = 0;
    Tensor logits_;  ///< [slice tokens, V]
};

}  // namespace pastur
