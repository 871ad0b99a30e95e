#include "kernels/swiglu.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& gu, const ConstTensor& out) {
    PASTUR_CHECK(gu.rank() == 2 && out.rank() == 2 && gu.contiguous() && out.contiguous() &&
                     gu.size(0) == out.size(0) && gu.size(1) == 2 * out.size(1) &&
                     gu.dtype() == out.dtype() && (gu.dtype() == DType::kF32 || gu.dtype() == DType::kBF16),
                 "{}: gu {}, out {}", op, describe(gu), describe(out));
}

}  // namespace

void swiglu_forward(Context& ctx, Tensor out, ConstTensor gu, const Fp8Rows& quantized) {
    check("swiglu_forward", gu, out);
    check_quantized("swiglu_forward", quantized, out);
    const OpScope scope(ctx, OpFamily::kSwiglu, 0, bytes_of(out, gu, quantized.values, quantized.scales));
    std::visit([&](auto& c) { swiglu_forward(c, out, gu, quantized); }, ctx);
}

void swiglu_backward(Context& ctx, Tensor dgu, Tensor out, ConstTensor dout, ConstTensor gu,
                     const Fp8Rows& quantized) {
    check("swiglu_backward", gu, dout);
    check("swiglu_backward", dgu, dout);
    if (!out.empty()) check("swiglu_backward", dgu, out);
    check_quantized("swiglu_backward", quantized, dgu);
    const OpScope scope(ctx, OpFamily::kSwiglu, 0,
                        bytes_of(dgu, out, dout, gu, quantized.values, quantized.scales));
    std::visit([&](auto& c) { swiglu_backward(c, dgu, out, dout, gu, quantized); }, ctx);
}

}  // namespace pastur
