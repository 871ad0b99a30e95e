#include "kernels/attention/cache_append.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void cache_append(Context& ctx, Tensor cache, ConstTensor x, ConstTensor positions, int64_t stride,
                  bool summed) {
    PASTUR_CHECK(cache.rank() == 3 && x.rank() == 2 && cache.size(0) == x.size(0) &&
                     cache.size(2) == x.size(1) && cache.stride(2) == 1 && x.stride(1) == 1 &&
                     cache.dtype() == x.dtype() && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16),
                 "cache_append: cache {}, x {}", describe(cache), describe(x));
    PASTUR_CHECK(positions.dtype() == DType::kI32 && positions.contiguous() &&
                     positions.shape() == Shape{x.size(0)} && stride >= 1,
                 "cache_append: positions {}, stride {}, x {}", describe(positions), stride, describe(x));
    const OpScope scope(ctx, OpFamily::kFill, 0, 2 * bytes_of(x));
    std::visit([&](auto& c) { cache_append(c, cache, x, positions, stride, summed); }, ctx);
}

}  // namespace pastur
