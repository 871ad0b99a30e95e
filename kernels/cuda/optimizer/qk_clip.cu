#include "kernels/optimizer/qk_clip.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/optimizer/rounded_store.cuh"

namespace pastur {
namespace {

constexpr int kThreads = 128;

template <typename Weight>
struct QkClipKernelParams {
    using Compute = std::conditional_t<std::is_same_v<Weight, float>, bf16, float>;
    Rows<Weight> param;
    Rows<Compute> compute;  ///< data may be null
    const float* factors;
    HeadRows heads;
    int64_t columns, step;
    RoundingParams rounding;
};

/// param[row] *= factors[head]; compute[row] = param[row]. A block has one row of one head, (x, y) of the grid; its threads
/// walk over columns. One number at a time: few heads are scaled in few steps, and a block of any other head returns after
/// one load.
template <typename Weight>
__global__ void __launch_bounds__(kThreads) scale_head_rows_kernel(QkClipKernelParams<Weight> p) {
    const float factor = p.factors[blockIdx.y];
    if (factor == 1.0f) return;
    const int64_t row = p.heads.first + blockIdx.y * p.heads.stride + blockIdx.x;
    for (int64_t column = threadIdx.x; column < p.columns; column += kThreads) {
        const float after = store_rounded(number_rounding(p.rounding, p.step, RoundedNumber::kClippedParam),
                                          &p.param[row][column], to_float(p.param[row][column]) * factor,
                                          p.rounding.first_element + row * p.param.stride + column);
        using Compute = typename QkClipKernelParams<Weight>::Compute;
        if (p.compute.data) p.compute[row][column] = from_float<Compute>(after);
    }
}

}  // namespace

void scale_head_rows(CudaContext& ctx, const ScaledRows& rows) {
    const dim3 grid(static_cast<unsigned>(rows.heads.rows), static_cast<unsigned>(rows.factors.numel()));
    visit_float_type(rows.param.dtype(), [&]<typename Weight>() {
        using Compute = typename QkClipKernelParams<Weight>::Compute;
        launch(ctx, grid, kThreads, 0, scale_head_rows_kernel<Weight>,
               QkClipKernelParams<Weight>{rows_of<Weight>(rows.param), rows_of<Compute>(rows.compute),
                                          rows.factors.data<float>(), rows.heads, rows.param.size(1),
                                          rows.step, rows.rounding});
    });
}

}  // namespace pastur
