#include "kernels/attention/attention_logits.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const ConstTensor& sums, const AttentionInputs& in) {
    const auto text = [&] {
        return fmt::format("attention_logits: sums {}, q {}, k {}, k_shared {}", describe(sums),
                           describe(in.q), describe(in.k), describe(in.k_shared));
    };
    PASTUR_CHECK(in.q.rank() == 4 && in.k.rank() == 4, "{}", text());
    const DType dtype = in.q.dtype();
    PASTUR_CHECK((dtype == DType::kF32 || dtype == DType::kBF16) && in.k.dtype() == dtype, "{}", text());
    PASTUR_CHECK(in.q.stride(3) == 1 && in.k.stride(3) == 1 && in.k.size(0) == in.q.size(0) &&
                     in.k.size(1) == in.q.size(1) && in.k.size(2) > 0 && in.q.size(2) % in.k.size(2) == 0,
                 "{}", text());
    int64_t rotary = 0;
    if (!in.k_shared.empty()) {
        PASTUR_CHECK(in.k_shared.rank() == 3 && in.k_shared.dtype() == dtype && in.k_shared.stride(2) == 1 &&
                         in.k_shared.size(0) == in.q.size(0) && in.k_shared.size(1) == in.q.size(1),
                     "{}", text());
        rotary = in.k_shared.size(2);
    }
    PASTUR_CHECK(in.q.size(3) == in.k.size(3) + rotary, "{}", text());
    const int64_t tiles = (in.q.size(1) + kLogitTile - 1) / kLogitTile;
    PASTUR_CHECK(sums.dtype() == DType::kF64 && sums.contiguous() &&
                     sums.shape() == (Shape{in.q.size(0), in.q.size(2), tiles, kLogitSums}),
                 "{}", text());
}

}  // namespace

void attention_logits(Context& ctx, Tensor sums, const AttentionInputs& in) {
    check(sums, in);
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(sums, in.q, in.k, in.k_shared));
    std::visit([&](auto& c) { attention_logits(c, sums, in); }, ctx);
}

}  // namespace pastur
