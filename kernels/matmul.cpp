#include "kernels/matmul.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

bool is_rows(const ConstTensor& x) {
    return x.rank() == 2 && (x.stride(1) == 1 || x.size(1) == 1);
}

/// Checks y [N, O], x [N, I] and w [O, I], or the gradients of the same shapes.
void check(const char* op, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w) {
    PASTUR_CHECK(is_rows(x) && is_rows(y) && w.rank() == 2 && w.contiguous() && x.size(0) == y.size(0) &&
                     x.size(1) == w.size(1) && y.size(1) == w.size(0),
                 "{}: y {}, x {}, w {}", op, describe(y), describe(x), describe(w));
    PASTUR_CHECK((x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) && y.dtype() == x.dtype(),
                 "{}: y {}, x {}", op, describe(y), describe(x));
}

/// FLOPs of each of the three GEMMs over y [N, O], x [N, I] and w [O, I].
double product_flops(const ConstTensor& y, const ConstTensor& x) {
    return 2.0 * static_cast<double>(y.numel()) * static_cast<double>(x.size(1));
}

}  // namespace

void linear_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    check("linear_forward", y, x, w);
    PASTUR_CHECK(w.dtype() == x.dtype(), "linear_forward: w {}, x {}", describe(w), describe(x));
    PASTUR_CHECK(residual.empty() ||
                     (is_rows(residual) && residual.shape() == y.shape() && residual.dtype() == y.dtype()),
                 "linear_forward: residual {}, y {}", describe(residual), describe(y));
    const OpScope scope(ctx, OpFamily::kMatmulForward, product_flops(y, x), bytes_of(y, x, w, residual));
    std::visit([&](auto& c) { linear_forward(c, y, x, w, residual); }, ctx);
}

void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    check("linear_backward_input", dy, dx, w);
    PASTUR_CHECK(w.dtype() == dx.dtype(), "linear_backward_input: w {}, dx {}", describe(w), describe(dx));
    const OpScope scope(ctx, OpFamily::kMatmulBackwardInput, product_flops(dy, dx),
                        bytes_of(dx, dy, w) + bytes_read_by(update, dx));
    std::visit([&](auto& c) { linear_backward_input(c, dx, dy, w, update); }, ctx);
}

void linear_backward_weight(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    check("linear_backward_weight", dy, x, dw);
    PASTUR_CHECK(dw.dtype() == DType::kF32, "linear_backward_weight: dw {}", describe(dw));
    const OpScope scope(ctx, OpFamily::kMatmulBackwardWeight, product_flops(dy, x),
                        bytes_of(dw, dy, x) + bytes_read_by(update, dw));
    std::visit([&](auto& c) { linear_backward_weight(c, dw, dy, x, update); }, ctx);
}

}  // namespace pastur
