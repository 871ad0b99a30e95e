#include "kernels/attention/linear_rope.h"

#include "kernels/attention/rope.h"
#include "kernels/base/op_timer.h"
#include "kernels/matmul.h"

namespace pastur {

bool has_linear_rope([[maybe_unused]] Context& ctx, [[maybe_unused]] const ConstTensor& y,
                     [[maybe_unused]] const ConstTensor& x, [[maybe_unused]] const ConstTensor& w,
                     [[maybe_unused]] const HeadRotation& rotation) {
#if defined(PASTUR_HAVE_CUDA)
    if (auto* device = std::get_if<CudaContext>(&ctx)) return has_linear_rope(*device, y, x, w, rotation);
#endif
    return false;
}

std::string linear_rope_fallback([[maybe_unused]] Context& ctx, [[maybe_unused]] DType dtype,
                                 [[maybe_unused]] int64_t in, [[maybe_unused]] int64_t outputs,
                                 [[maybe_unused]] int64_t head) {
#if defined(PASTUR_HAVE_CUDA)
    auto* device = std::get_if<CudaContext>(&ctx);
    if (device && has_linear_rope(*device, dtype) && !linear_rope_takes(in, outputs, head))
        return fmt::format(
            "queries and keys: no fused GEMM+RoPE kernel for {} outputs from {} columns in heads of {} "
            "(needs columns in multiples of 8, at least {}, heads of 64 or 128, outputs that fill 95 % of "
            "tiles of {}): RoPE runs as a separate kernel, which makes a step about one percent slower",
            outputs, in, head, kFewestRotatingColumns, kRotatingTile);
#endif
    return "";
}

void linear_rope_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, const HeadRotation& rotation) {
    const int64_t width = rotation.table.rank() == 2 ? rotation.table.size(1) : 0, heads = rotation.heads,
                  sequence = rotation.sequence;
    PASTUR_CHECK(y.rank() == 2 && x.rank() == 2 && w.rank() == 2 && width > 0 && heads > 0 &&
                     heads * width <= y.size(1) && rotation.table.size(0) >= sequence && sequence > 0 &&
                     y.size(0) % sequence == 0,
                 "linear_rope_forward: y {}, {} heads at {} positions of table {}", describe(y), heads,
                 sequence, describe(rotation.table));
#if defined(PASTUR_HAVE_CUDA)
    if (auto* device = std::get_if<CudaContext>(&ctx);
        device && has_linear_rope(*device, y, x, w, rotation)) {
        PASTUR_CHECK(x.size(0) == y.size(0) && x.size(1) == w.size(1) && y.size(1) == w.size(0) &&
                         w.contiguous() && y.dtype() == x.dtype() && w.dtype() == x.dtype(),
                     "linear_rope_forward: y {}, x {}, w {}", describe(y), describe(x), describe(w));
        const double flops = 2.0 * static_cast<double>(y.numel()) * static_cast<double>(x.size(1));
        const OpScope scope(ctx, OpFamily::kMatmulForward, flops, bytes_of(y, x, w));
        return linear_rope_forward(*device, y, x, w, rotation);
    }
#endif
    linear_forward(ctx, y, x, w);
    const Tensor rotated =
        y.slice(1, 0, heads * width).unflatten(0, y.size(0) / sequence, sequence).unflatten(2, heads, width);
    rope(ctx, rotated, rotated, rotation.table, Rotation::kForward);
}

}  // namespace pastur
