#include "kernels/matmul.h"

namespace pastur {
namespace {

bool is_rows(const ConstTensor& x) {
    return x.rank() == 2 && (x.stride(1) == 1 || x.size(1) == 1);
}

/// a [N, A], b [N, B], c [B, A] or [A, B]: what the three products share.
void check(const char* op, const ConstTensor& y, const ConstTensor& x, const ConstTensor& w) {
    PASTUR_CHECK(is_rows(x) && is_rows(y) && w.rank() == 2 && w.contiguous() && x.size(0) == y.size(0) &&
                     x.size(1) == w.size(1) && y.size(1) == w.size(0),
                 "{}: y {}, x {}, w {}", op, describe(y), describe(x), describe(w));
    PASTUR_CHECK((x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) && y.dtype() == x.dtype(),
                 "{}: y {}, x {}", op, describe(y), describe(x));
}

}  // namespace

void linear_forward(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    check("linear_forward", y, x, w);
    PASTUR_CHECK(w.dtype() == x.dtype(), "linear_forward: w {}, x {}", describe(w), describe(x));
    PASTUR_CHECK(residual.empty() ||
                     (is_rows(residual) && residual.shape() == y.shape() && residual.dtype() == y.dtype()),
                 "linear_forward: residual {}, y {}", describe(residual), describe(y));
    std::visit([&](auto& c) { linear_forward(c, y, x, w, residual); }, ctx);
}

void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    check("linear_backward_input", dy, dx, w);
    PASTUR_CHECK(w.dtype() == dx.dtype(), "linear_backward_input: w {}, dx {}", describe(w), describe(dx));
    std::visit([&](auto& c) { linear_backward_input(c, dx, dy, w, update); }, ctx);
}

void linear_backward_weight(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    check("linear_backward_weight", dy, x, dw);
    PASTUR_CHECK(dw.dtype() == DType::kF32, "linear_backward_weight: dw {}", describe(dw));
    std::visit([&](auto& c) { linear_backward_weight(c, dw, dy, x, update); }, ctx);
}

}  // namespace pastur
