#include "engine/model/attention/absorbed_core.h"

#include "kernels/attention/head_linear.h"

namespace pastur {

void AbsorbedCore::plan(Context& ctx, Planner& planner, const DecodeInputs& in, int64_t heads) {
    const DType dtype = in.k.dtype();
    q_latent_ = planner.keep(dtype, {in.k.size(0), heads, in.k.size(3)});
    o_latent_ = planner.keep(dtype, {in.v.size(0), heads, in.v.size(3)});
    DecodeInputs absorbed = in;
    absorbed.q = q_latent_;
    planner.need_scratch(decode_attention_scratch_bytes(ctx, absorbed));
}

void AbsorbedCore::attend(Context& ctx, Tensor out, const DecodeInputs& in, ConstTensor key_up,
                          ConstTensor value_up) {
    head_linear(ctx, q_latent_, in.q, key_up, HeadMap::kTransposed);
    DecodeInputs absorbed = in;
    absorbed.q = q_latent_;
    decode_attention(ctx, o_latent_, absorbed);
    head_linear(ctx, out, o_latent_, value_up, HeadMap::kForward);
}

}  // namespace pastur
