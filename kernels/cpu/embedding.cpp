#include "kernels/embedding.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"

namespace pastur {

void embedding_forward(CpuContext& ctx, Tensor out, ConstTensor table, ConstTensor ids) {
    const int64_t width = table.size(1);
    const float* rows = table.data<float>();
    const int32_t* id = ids.data<int32_t>();
    float* to = out.data<float>();
    parallel_for(ctx, ids.size(0), width,
                 [&](int64_t n) { std::copy_n(rows + id[n] * width, width, to + n * width); });
}

/// Each thread owns a band of columns and adds the tokens in ascending n, so no two threads write the same
/// number and the order of summation is fixed.
void embedding_backward(CpuContext& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update) {
    constexpr int64_t kColumns = 16;  // a cache line of floats
    const int64_t width = dtable.size(1);
    const int32_t* id = ids.data<int32_t>();
    const float* from = dout.data<float>();
    float* rows = dtable.data<float>();
    if (update == Update::kAssign)
        parallel_for(ctx, dtable.size(0), width,
                     [&](int64_t v) { std::fill_n(rows + v * width, width, 0.0f); });
    parallel_for_pieces(ctx, width, kColumns, ids.size(0), [&](int64_t begin, int64_t end) {
        for (int64_t n = 0; n < ids.size(0); ++n) {
            float* row = rows + id[n] * width;
            for (int64_t c = begin; c < end; ++c) row[c] += from[n * width + c];
        }
    });
}

int64_t embedding_backward_scratch_bytes(CpuContext&, int64_t, int64_t) {
    return 0;
}

}  // namespace pastur
