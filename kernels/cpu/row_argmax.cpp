#include "kernels/row_argmax.h"

#include <cmath>

#include "kernels/cpu/parallel.h"

namespace pastur {

void row_argmax(CpuContext& ctx, Tensor ids, ConstTensor x) {
    parallel_for(ctx, x.size(0), x.size(1), [&](int64_t n) {
        const float* row = x.data<float>() + n * x.stride(0);
        int64_t best = 0;
        bool usable = true;
        for (int64_t i = 0; i < x.size(1); ++i) {
            usable &= row[i] < INFINITY;  // false for NaN
            if (row[i] > row[best]) best = i;
        }
        usable &= row[best] > -INFINITY;
        ids.data<int32_t>()[n] = usable ? static_cast<int32_t>(best) : -1;
    });
}

}  // namespace pastur
