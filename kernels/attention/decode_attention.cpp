#include "kernels/attention/decode_attention.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const ConstTensor& out, const DecodeInputs& in) {
    const auto text = [&] {
        return fmt::format("decode_attention: out {}, q {}, q_shared {}, k {}, k_shared {}, v {}",
                           describe(out), describe(in.q), describe(in.q_shared), describe(in.k),
                           describe(in.k_shared), describe(in.v));
    };
    const DType dtype = in.q.dtype();
    const auto fits = [&](const ConstTensor& x, int rank) {
        return x.rank() == rank && x.dtype() == dtype && x.stride(-1) == 1 && x.size(0) == in.q.size(0);
    };
    PASTUR_CHECK((dtype == DType::kF32 || dtype == DType::kBF16) && fits(in.q, 3) && fits(in.k, 4) &&
                     fits(in.v, 4) && fits(out, 3),
                 "{}", text());
    PASTUR_CHECK(in.k.size(3) == in.q.size(2) && in.k.size(2) > 0 && in.q.size(1) % in.k.size(2) == 0 &&
                     in.v.size(1) == in.k.size(1) && in.v.size(2) == in.k.size(2) &&
                     out.size(1) == in.q.size(1) && out.size(2) == in.v.size(3),
                 "{}", text());
    PASTUR_CHECK(in.q_shared.empty() == in.k_shared.empty(), "{}", text());
    if (!in.q_shared.empty())
        PASTUR_CHECK(fits(in.q_shared, 3) && fits(in.k_shared, 3) && in.q_shared.size(1) == in.q.size(1) &&
                         in.k_shared.size(1) == in.k.size(1) && in.q_shared.size(2) == in.k_shared.size(2),
                     "{}", text());
    PASTUR_CHECK(in.lengths.dtype() == DType::kI32 && in.lengths.contiguous() &&
                     in.lengths.shape() == Shape{in.q.size(0)},
                 "decode_attention: lengths {}, expected i32 [{}]", describe(in.lengths), in.q.size(0));
    PASTUR_CHECK(in.longest >= 1 && in.longest <= in.k.size(1),
                 "decode_attention: longest {}, expected 1 to {}, the entries of the cache", in.longest,
                 in.k.size(1));
}

/// Bytes of the entries that are read if every sequence has `longest`.
double bytes_read(const DecodeInputs& in) {
    int64_t width = in.k.size(2) * in.k.size(3) + (in.k_shared.empty() ? 0 : in.k_shared.size(2));
    if (in.v.bytes() != in.k.bytes()) width += in.v.size(2) * in.v.size(3);
    return static_cast<double>(in.q.size(0) * in.longest * width * size_of(in.q.dtype()));
}

double flops(const DecodeInputs& in) {
    const int64_t key = in.q.size(2) + (in.q_shared.empty() ? 0 : in.q_shared.size(2));
    return 2.0 * static_cast<double>(in.q.size(0) * in.q.size(1) * in.longest * (key + in.v.size(3)));
}

}  // namespace

void decode_attention(Context& ctx, Tensor out, const DecodeInputs& in) {
    check(out, in);
    const OpScope scope(ctx, OpFamily::kAttentionForward, flops(in),
                        bytes_read(in) + bytes_of(out, in.q, in.q_shared));
    std::visit([&](auto& c) { decode_attention(c, out, in); }, ctx);
}

int64_t decode_attention_scratch_bytes(Context& ctx, const DecodeInputs& in) {
    return std::visit([&](auto& c) { return decode_attention_scratch_bytes(c, in); }, ctx);
}

}  // namespace pastur
