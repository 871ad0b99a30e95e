#include "kernels/cross_entropy.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr double kLn2 = 0.69314718055994530942;

/// Vectors of a row that each thread keeps in registers: 32768 columns of bf16 with 512 threads, 8192 with
/// 128.
constexpr int kPacks = 8;

/// The part of one row that this thread owns: of an aligned body of vectors, the vectors t, t + kThreads, ...
/// for thread t, and at most one of the single columns before and after the body. (Where V is odd, adjacent
/// rows begin at different offsets from a multiple of 16 bytes.)
template <typename Element, int kThreads>
struct RowShare {
    using T = std::remove_const_t<Element>;
    static constexpr int kWidth = kVector<T>;
    using Pack = Packed<T, kWidth>;
    Element* first;  ///< vector v begins at first + v kThreads kWidth
    int count;       ///< number of vectors
    Element* edge;   ///< the single column, or null

    __device__ RowShare(Element* row, int width) {
        const int thread = threadIdx.x;
        const auto past = static_cast<int>(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
        const int head = min(past == 0 ? 0 : kWidth - past, width), vectors = (width - head) / kWidth;
        const int edges = width - vectors * kWidth;
        first = row + head + thread * kWidth;
        count = (vectors - thread + kThreads - 1) / kThreads;
        edge = thread >= edges ? nullptr : row + (thread < head ? thread : width - edges + thread);
    }
    __device__ Element* vector(int v) const { return first + static_cast<int64_t>(v) * (kThreads * kWidth); }

    /// Calls visit(x) for each number of the thread; `kept` holds its first kPacks vectors.
    template <typename Visit>
    __device__ void for_each(const Pack (&kept)[kPacks], const Visit& visit) const {
#pragma unroll
        for (int p = 0; p < kPacks; ++p)
            if (p < count)
                for (int i = 0; i < kWidth; ++i) visit(kept[p][i]);
#pragma unroll 1
        for (int v = kPacks; v < count; ++v) {
            const Pack pack = Pack::load(vector(v));
            for (int i = 0; i < kWidth; ++i) visit(pack[i]);
        }
        if (edge) visit(to_float(*edge));
    }
};

/// loss[n] = log sum_v e^x[v] - x[target]; with kGradient also x[v] = scale (e^x[v] / sum - [v = target]).
/// d(log sum_v e^x[v] - x[t])/dx[v] = softmax(x)[v] - [v = t]. losses =, logits =. A row with a negative target is
/// ignored: its loss and its gradient are 0.
/// One block per row. The first kPacks vectors of each thread stay in registers through the maximum, the sum
/// and the gradient, so the row is read once and written once (the rest of a wider row is read again from the
/// cache). Exponentials are base 2 relative to `shift`, the maximum in base 2, so each needs one multiply-add
/// before it. The loss uses the same rounded shift, whose rounding error cancels.
template <typename T, int kThreads, bool kGradient>
__global__ void __launch_bounds__(kThreads, 1024 / kThreads)
    cross_entropy_kernel(float* losses, std::conditional_t<kGradient, T, const T>* logits,
                         const int32_t* targets, int width, float scale) {
    using Element = std::conditional_t<kGradient, T, const T>;
    using Share = RowShare<Element, kThreads>;
    using Pack = Packed<T, kVector<T>>;
    __shared__ float shared[2][kThreads / kWarp];
    Element* row = logits + static_cast<int64_t>(blockIdx.x) * width;
    const Share share(row, width);
    const int32_t id = targets[blockIdx.x];
    if (id < 0) {
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        if constexpr (kGradient) {
            const Pack zeros = Pack::of([](int) { return 0.0f; });
            for (int v = 0; v < share.count; ++v) zeros.store(share.vector(v));
            if (share.edge) *share.edge = from_float<T>(0.0f);
        }
        return;
    }
    Element* target = row + id;
    const float target_logit = to_float(*target);

    Pack kept[kPacks];
#pragma unroll
    for (int p = 0; p < kPacks; ++p)
        if (p < share.count) kept[p] = Pack::load(share.vector(p));
    float maximum = -INFINITY, sum = 0;
    share.for_each(kept, [&](float x) { maximum = fmaxf(maximum, x); });
    const float shift = block_max<kThreads>(maximum, shared[0]) * kLog2E;
    const auto power = [&](float x) { return exp2_approximate(fmaf(x, kLog2E, -shift)); };
    share.for_each(kept, [&](float x) { sum += power(x); });
    sum = block_sum<kThreads>(sum, shared[1]);

    if (threadIdx.x == 0) {
        const double lse = (static_cast<double>(shift) + static_cast<double>(log2f(sum))) * kLn2;
        losses[blockIdx.x] = static_cast<float>(lse - static_cast<double>(target_logit));
    }

    if constexpr (kGradient) {
        const float factor = scale / sum;
        const auto write = [&](const Pack& pack, int v) {
            Pack::of([&](int i) { return power(pack[i]) * factor; }).store(share.vector(v));
        };
#pragma unroll
        for (int p = 0; p < kPacks; ++p)
            if (p < share.count) write(kept[p], p);
#pragma unroll 1
        for (int v = kPacks; v < share.count; ++v) write(Pack::load(share.vector(v)), v);
        if (share.edge) *share.edge = from_float<T>(power(to_float(*share.edge)) * factor);
        // The owner of the target's column has written it; one thread overwrites it.
        __syncthreads();
        if (threadIdx.x == 0) *target = from_float<T>(power(target_logit) * factor - scale);
    }
}

template <bool kGradient, typename Logits>
void launch_cross_entropy(CudaContext& ctx, const Tensor& losses, const Logits& logits,
                          const ConstTensor& targets, float scale) {
    const int64_t rows = logits.size(0), width = logits.size(1);
    PASTUR_CHECK(width <= INT32_MAX - 1024 * kPacks * 8, "cross_entropy: logits {}", describe(logits));
    visit_float_type(logits.dtype(), [&]<typename T>() {
        const auto run = [&]<int kThreads>() {
            launch(ctx, rows, kThreads, 0, cross_entropy_kernel<T, kThreads, kGradient>,
                   losses.template data<float>(), device_data<T>(logits), targets.template data<int32_t>(),
                   width, scale);
        };
        if (width <= 128 * kPacks * kVector<T>)
            run.template operator()<128>();
        else
            run.template operator()<512>();
    });
}

}  // namespace

void cross_entropy_forward(CudaContext& ctx, Tensor losses, ConstTensor logits, ConstTensor targets) {
    launch_cross_entropy<false>(ctx, losses, logits, targets, 0);
}

void cross_entropy_forward_backward(CudaContext& ctx, Tensor losses, Tensor logits, ConstTensor targets,
                                    float scale) {
    launch_cross_entropy<true>(ctx, losses, logits, targets, scale);
}

}  // namespace pastur
