#pragma once
// Decoding of latent attention without decompression (DeepSeek-V2, arXiv 2405.04434, section 2.1.2): with keys W_K c and
// values W_V c of a latent c, q (W_K c) = (W_K^T q) c and sum p (W_V c) = W_V (sum p c), so queries and outputs are
// mapped, one per sequence, and the latents are read as they are.
#include "engine/model/planner.h"
#include "kernels/attention/decode_attention.h"
#include "kernels/base/context.h"

namespace pastur {

class AbsorbedCore {
  public:
    /// in: shapes as for attend(), with any q.
    void plan(Context& ctx, Planner& planner, const DecodeInputs& in, int64_t heads);
    /// out [B, H, d_v]. in.q: content queries [B, H, d_n]; in.k, in.v: latents [B, S, 1, rank]. key_up [H, d_n, key
    /// rank] and value_up [H, d_v, value rank]: rows of the up-projections.
    void attend(Context& ctx, Tensor out, const DecodeInputs& in, ConstTensor key_up, ConstTensor value_up);

  private:
    Tensor q_latent_, o_latent_;  ///< [B, H, rank]
};

}  // namespace pastur
