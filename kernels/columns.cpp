#include "kernels/columns.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void flatten_heads(Context& ctx, Tensor out, ConstTensor x) {
    PASTUR_CHECK(x.rank() == 4 && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) &&
                     x.stride(3) == 1 && out.dtype() == DType::kF32 && out.rank() == 2 &&
                     out.stride(1) == 1 && out.size(0) == x.size(0) * x.size(1) &&
                     out.size(1) == x.size(2) * x.size(3),
                 "flatten_heads: out {}, x {}", describe(out), describe(x));
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(out, x));
    std::visit([&](auto& c) { flatten_heads(c, out, x); }, ctx);
}

void center_columns(Context& ctx, Tensor x) {
    PASTUR_CHECK(x.dtype() == DType::kF32 && x.rank() == 2 && x.contiguous() && x.size(0) > 0,
                 "center_columns: x {}", describe(x));
    const OpScope scope(ctx, OpFamily::kReduce, 0, 3 * bytes_of(x));
    std::visit([&](auto& c) { center_columns(c, x); }, ctx);
}

}  // namespace pastur
