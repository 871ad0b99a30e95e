#include "kernels/rmsnorm.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

/// x [N, C] with unit stride in C.
bool is_rows(const ConstTensor& x, const ConstTensor& like) {
    return x.rank() == 2 && x.stride(1) == 1 && x.shape() == like.shape() && x.dtype() == like.dtype();
}

void check(const char* op, const ConstTensor& x, const ConstTensor& rstd, const ConstTensor& weight) {
    PASTUR_CHECK(is_rows(x, x) && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16), "{}: x {}", op,
                 describe(x));
    PASTUR_CHECK(rstd.dtype() == DType::kF32 && rstd.contiguous() && rstd.shape() == Shape{x.size(0)},
                 "{}: rstd {}, x {}", op, describe(rstd), describe(x));
    PASTUR_CHECK(weight.dtype() == DType::kF32 && weight.contiguous() && weight.shape() == Shape{x.size(1)},
                 "{}: weight {}, x {}", op, describe(weight), describe(x));
}

}  // namespace

void rmsnorm_forward(Context& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& rounded) {
    check("rmsnorm_forward", x, rstd, weight);
    check_rounded("rmsnorm_forward", rounded, x);
    PASTUR_CHECK(is_rows(out, x), "rmsnorm_forward: out {}, x {}", describe(out), describe(x));
    const OpScope scope(ctx, OpFamily::kRmsNorm, 0,
                        bytes_of(out, rstd, x, weight, rounded.values, rounded.scales));
    std::visit([&](auto& c) { rmsnorm_forward(c, out, rstd, x, weight, eps, rounded); }, ctx);
}

void rmsnorm_backward(Context& ctx, Tensor dx, Tensor dweight, Tensor out, ConstTensor dy, ConstTensor x,
                      ConstTensor rstd, ConstTensor weight, ConstTensor dresidual, Update dweight_update,
                      const Fp8Rows& rounded) {
    check("rmsnorm_backward", x, rstd, weight);
    check_rounded("rmsnorm_backward", rounded, x);
    PASTUR_CHECK(is_rows(dx, x) && is_rows(dy, x), "rmsnorm_backward: dx {}, dy {}, x {}", describe(dx),
                 describe(dy), describe(x));
    PASTUR_CHECK(dweight.dtype() == DType::kF32 && dweight.contiguous() && dweight.shape() == weight.shape(),
                 "rmsnorm_backward: dweight {}, weight {}", describe(dweight), describe(weight));
    PASTUR_CHECK(dresidual.empty() || is_rows(dresidual, x), "rmsnorm_backward: dresidual {}, x {}",
                 describe(dresidual), describe(x));
    PASTUR_CHECK(out.empty() || is_rows(out, x), "rmsnorm_backward: out {}, x {}", describe(out),
                 describe(x));
    const OpScope scope(
        ctx, OpFamily::kRmsNorm, 0,
        bytes_of(dx, dweight, out, dy, x, rstd, weight, dresidual, rounded.values, rounded.scales));
    std::visit(
        [&](auto& c) {
            rmsnorm_backward(c, dx, dweight, out, dy, x, rstd, weight, dresidual, dweight_update, rounded);
        },
        ctx);
}

int64_t rmsnorm_backward_scratch_bytes(Context& ctx, int64_t rows, int64_t width) {
    return std::visit([&](auto& c) { return rmsnorm_backward_scratch_bytes(c, rows, width); }, ctx);
}

}  // namespace pastur
