#include "kernels/rmsnorm.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

/// Whether x is [N, C] or [N, H, C] with unit stride in C, of the shape and dtype of `like`.
bool is_rows(const ConstTensor& x, const ConstTensor& like) {
    return (x.rank() == 2 || x.rank() == 3) && x.stride(-1) == 1 && x.shape() == like.shape() &&
           x.dtype() == like.dtype();
}

void check(const char* op, const ConstTensor& x, const ConstTensor& rstd, const ConstTensor& weight) {
    PASTUR_CHECK(is_rows(x, x) && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16), "{}: x {}", op,
                 describe(x));
    const Shape rows = x.rank() == 2 ? Shape{x.size(0)} : Shape{x.size(0), x.size(1)};
    PASTUR_CHECK(rstd.dtype() == DType::kF32 && rstd.contiguous() && rstd.shape() == rows,
                 "{}: rstd {}, x {}", op, describe(rstd), describe(x));
    PASTUR_CHECK(weight.dtype() == DType::kF32 && weight.contiguous() && weight.shape() == Shape{x.size(-1)},
                 "{}: weight {}, x {}", op, describe(weight), describe(x));
}

}  // namespace

void rmsnorm_forward(Context& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized, float gain) {
    check("rmsnorm_forward", x, rstd, weight);
    check_quantized("rmsnorm_forward", quantized, x);
    PASTUR_CHECK(is_rows(out, x), "rmsnorm_forward: out {}, x {}", describe(out), describe(x));
    const OpScope scope(ctx, OpFamily::kRmsNorm, 0,
                        bytes_of(out, rstd, x, weight, quantized.values, quantized.scales));
    std::visit([&](auto& c) { rmsnorm_forward(c, out, rstd, x, weight, eps, quantized, gain); }, ctx);
}

void rmsnorm_backward(Context& ctx, const RmsnormBackward& p) {
    check("rmsnorm_backward", p.x, p.rstd, p.weight);
    check_quantized("rmsnorm_backward", p.quantized_dx, p.x);
    PASTUR_CHECK(is_rows(p.dx, p.x) && is_rows(p.dy, p.x), "rmsnorm_backward: dx {}, dy {}, x {}",
                 describe(p.dx), describe(p.dy), describe(p.x));
    PASTUR_CHECK(
        p.dweight.dtype() == DType::kF32 && p.dweight.contiguous() && p.dweight.shape() == p.weight.shape(),
        "rmsnorm_backward: dweight {}, weight {}", describe(p.dweight), describe(p.weight));
    PASTUR_CHECK(p.dresidual.empty() || is_rows(p.dresidual, p.x), "rmsnorm_backward: dresidual {}, x {}",
                 describe(p.dresidual), describe(p.x));
    PASTUR_CHECK(p.out.empty() || is_rows(p.out, p.x), "rmsnorm_backward: out {}, x {}", describe(p.out),
                 describe(p.x));
    const OpScope scope(ctx, OpFamily::kRmsNorm, 0,
                        bytes_of(p.dx, p.dweight, p.out, p.dy, p.x, p.rstd, p.weight, p.dresidual,
                                 p.quantized_dx.values, p.quantized_dx.scales));
    std::visit([&](auto& c) { rmsnorm_backward(c, p); }, ctx);
}

int64_t rmsnorm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width) {
    return std::visit([&](auto& c) { return rmsnorm_backward_scratch_bytes(c, rows, width); }, ctx);
}

}  // namespace pastur
