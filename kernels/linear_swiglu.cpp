#include "kernels/linear_swiglu.h"

#include "kernels/base/op_timer.h"
#include "kernels/matmul.h"
#include "kernels/swiglu.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& gu, const ConstTensor& x, const ConstTensor& w, int64_t out,
           int64_t in) {
    PASTUR_CHECK(gu.rank() == 2 && x.rank() == 2 && w.rank() == 2 && gu.contiguous() && w.contiguous() &&
                     gu.size(0) == x.size(0) && gu.size(1) % 2 == 0 && w.size(0) == out && w.size(1) == in &&
                     gu.dtype() == x.dtype() && gu.dtype() == w.dtype(),
                 "{}: gu {}, x or dy {}, w {}", op, describe(gu), describe(x), describe(w));
}

double flops(const ConstTensor& x, const ConstTensor& w) {
    return 2.0 * static_cast<double>(x.size(0)) * static_cast<double>(w.numel());
}

/// Calls run(device) and returns true if the device has a fused kernel for these tensors.
template <typename Run>
bool run_fused([[maybe_unused]] Context& ctx, [[maybe_unused]] const ConstTensor& x,
               [[maybe_unused]] const ConstTensor& w, [[maybe_unused]] const ConstTensor& gu,
               [[maybe_unused]] const Run& run) {
#if defined(PASTUR_HAVE_CUDA)
    if (auto* device = std::get_if<CudaContext>(&ctx); device && has_linear_swiglu(*device, x, w, gu)) {
        run(*device);
        return true;
    }
#endif
    return false;
}

}  // namespace

std::string linear_swiglu_fallback([[maybe_unused]] Context& ctx, [[maybe_unused]] DType dtype,
                                   [[maybe_unused]] int64_t in, [[maybe_unused]] int64_t ffn) {
#if defined(PASTUR_HAVE_CUDA)
    auto* device = std::get_if<CudaContext>(&ctx);
    if (device && has_linear_swiglu(*device, dtype) && !linear_swiglu_takes(in, ffn))
        return fmt::format(
            "feed-forward: no fused GEMM+SwiGLU kernel for widths {} and {} (needs multiples of 8, the first "
            "at least {}): SwiGLU runs as a separate kernel, which makes a step a few percent slower",
            in, ffn, kFewestGatedColumns);
#endif
    return "";
}

void linear_swiglu_forward(Context& ctx, Tensor out, Tensor gu, ConstTensor x, ConstTensor w) {
    check("linear_swiglu_forward", gu, x, w, gu.size(1), x.size(1));
    PASTUR_CHECK(
        out.contiguous() && out.shape() == Shape({x.size(0), gu.size(1) / 2}) && out.dtype() == gu.dtype(),
        "linear_swiglu_forward: out {}, gu {}", describe(out), describe(gu));
    const bool fused = run_fused(ctx, x, w, gu, [&](auto& device) {
        const OpScope scope(ctx, OpFamily::kMatmulForward, flops(x, w), bytes_of(out, gu, x, w));
        linear_swiglu_forward(device, out, gu, x, w);
    });
    if (fused) return;
    linear_forward(ctx, gu, x, w);
    swiglu_forward(ctx, out, gu);
}

void linear_swiglu_backward(Context& ctx, Tensor dgu, Tensor out, Tensor dout, ConstTensor dy, ConstTensor w,
                            ConstTensor gu) {
    check("linear_swiglu_backward", gu, dy, w, dy.size(1), gu.size(1) / 2);
    for (const Tensor& half : {dout, out.empty() ? dout : out})
        PASTUR_CHECK(half.contiguous() && half.shape() == Shape({dy.size(0), gu.size(1) / 2}) &&
                         half.dtype() == gu.dtype(),
                     "linear_swiglu_backward: out or dout {}, gu {}", describe(half), describe(gu));
    PASTUR_CHECK(dgu.contiguous() && dgu.shape() == gu.shape() && dgu.dtype() == gu.dtype(),
                 "linear_swiglu_backward: dgu {}, gu {}", describe(dgu), describe(gu));
    const bool fused = run_fused(ctx, dy, w, gu, [&](auto& device) {
        const OpScope scope(ctx, OpFamily::kMatmulBackwardInput, flops(dy, w), bytes_of(dgu, out, dy, w, gu));
        linear_swiglu_backward(device, dgu, out, dy, w, gu);
    });
    if (fused) return;
    linear_backward_input(ctx, dout, dy, w, Update::kAssign);
    swiglu_backward(ctx, dgu, out, dout, gu);
}

}  // namespace pastur
