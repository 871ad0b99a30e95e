#include "kernels/row_argmax.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void row_argmax(Context& ctx, Tensor ids, ConstTensor x) {
    PASTUR_CHECK(x.rank() == 2 && x.size(1) > 0 && (x.stride(1) == 1 || x.size(1) == 1) &&
                     (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) && ids.dtype() == DType::kI32 &&
                     ids.contiguous() && ids.shape() == Shape{x.size(0)},
                 "row_argmax: ids {}, x {}", describe(ids), describe(x));
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(ids, x));
    std::visit([&](auto& c) { row_argmax(c, ids, x); }, ctx);
}

}  // namespace pastur
