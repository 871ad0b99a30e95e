#include "kernels/fp8.h"

#include "kernels/cuda/fp8.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_groups.cuh"

namespace pastur {
namespace {

/// Registers hold 768 columns of bf16 for a warp, 4096 for four warps, 12288 for eight.
constexpr KeptPacks kKept{3, 4, 6};

/// out.scales[n] = max |x[n]| / 448; out.values[n] = x[n] / out.scales[n], rounded to e4m3.
/// One group per row; its thread t owns columns (t + kGroup j) kWidth to + kWidth. The row is read once.
/// The width is a multiple of kWidth; rows are aligned for Packed<T, kWidth>.
template <typename T, int kWidth, int kGroup>
__global__ void __launch_bounds__(kGroupThreads<kGroup>)
    quantize_rows_kernel(F8Output out, Rows<const T> x, int64_t rows) {
    using Pack = Packed<T, kWidth>;
    constexpr int kPacks = kPacksOf<kKept, kGroup>;
    __shared__ float shared[1][kWarpsOf<kGroup>];
    const int64_t row =
        static_cast<int64_t>(blockIdx.x) * (kGroupThreads<kGroup> / kGroup) + threadIdx.x / kGroup;
    if (row >= rows) return;
    const int thread = threadIdx.x % kGroup, count = out.width / kWidth;
    const int tail = tail_begin<kGroup, kPacks>(thread, count);
    const T* from = x[row];

    Pack kept[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) kept[p] = Pack::load(from + (thread + p * kGroup) * kWidth);
    float largest = 0;
    const auto include = [&](const Pack& pack) { largest = fmaxf(largest, largest_of<kWidth>(pack)); };
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) include(kept[p]);
    for (int v = tail; v < count; v += kGroup) include(Pack::load(from + v * kWidth));
    largest = group_max<kGroup>(largest, shared, 0);

    const Fp8Scale scale(largest);
    if (thread == 0) out.scales[row] = scale.scale;
    const auto write = [&](const Pack& pack, int column) { out.store<kWidth>(row, column, scale, pack); };
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (thread + p * kGroup < count) write(kept[p], (thread + p * kGroup) * kWidth);
    for (int v = tail; v < count; v += kGroup) write(Pack::load(from + v * kWidth), v * kWidth);
}

}  // namespace

void quantize_rows(CudaContext& ctx, const Fp8Rows& out, ConstTensor x) {
    const int64_t rows = x.size(0), width = x.size(1);
    const bool aligned = allows_vectors(x) && allows_f8_vectors(out);
    visit_float_type(x.dtype(), [&]<typename T>() {
        visit_row_shape<T, kKept>(width, aligned, [&]<int kWidth, int kGroup>() {
            launch(ctx, ceil_div(rows, kGroupThreads<kGroup> / kGroup), kGroupThreads<kGroup>, 0,
                   quantize_rows_kernel<T, kWidth, kGroup>, f8_output(out), rows_of<T>(x), rows);
        });
    });
}

int64_t fp8_gemm_scratch_bytes(CudaContext&, int64_t, int64_t, int64_t) {
    return 0;
}

}  // namespace pastur
