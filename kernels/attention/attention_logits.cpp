#include "kernels/attention/attention_logits.h"

#include "kernels/attention/check_scores.h"
#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const ConstTensor& sums, const AttentionInputs& in) {
    check_scores("attention_logits", in);
    const int64_t tiles = (in.q.size(1) + kLogitTile - 1) / kLogitTile;
    PASTUR_CHECK(sums.dtype() == DType::kF64 && sums.contiguous() &&
                     sums.shape() == (Shape{in.q.size(0), in.q.size(2), tiles, kLogitSums}),
                 "attention_logits: sums {}, q {}", describe(sums), describe(in.q));
}

}  // namespace

void attention_logits(Context& ctx, Tensor sums, const AttentionInputs& in) {
    check(sums, in);
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(sums, in.q, in.k, in.k_shared));
    std::visit([&](auto& c) { attention_logits(c, sums, in); }, ctx);
}

}  // namespace pastur
