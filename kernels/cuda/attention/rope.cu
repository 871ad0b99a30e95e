#include "kernels/attention/rope.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;

/// Strides of [B, T, H, D] in elements; the stride of D is 1.
struct HeadStrides {
    int64_t batch, token, head;
    explicit HeadStrides(const ConstTensor& x) : batch(x.stride(0)), token(x.stride(1)), head(x.stride(2)) {}
};

template <typename T>
struct RopeParams {
    T* out;
    const T* in;
    const float* table;  ///< [>= tokens, 2 half]: cosines, then sines
    HeadStrides out_strides, in_strides;
    int batch;
    unsigned tokens, heads, half;
    float sign;  ///< of the angle
};

/// out[i] = in[i] cos - in[i + half] sin; out[i + half] = in[i + half] cos + in[i] sin; sin is negated for
/// the inverse. blockIdx.y is the sequence. A thread owns the kWidth pairs from i on of one head of one token
/// and reads them before it writes them, so out may be in. half is a multiple of kWidth; all rows are aligned
/// for Packed.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) rope_kernel(RopeParams<T> params) {
    using Pack = Packed<T, kWidth>;
    using Floats = Packed<float, kWidth>;
    const unsigned vectors = params.half / kWidth, item = blockIdx.x * kThreads + threadIdx.x;
    const unsigned row = item / vectors, column = item % vectors * kWidth;
    const unsigned token = row / params.heads, head = row % params.heads;
    if (token >= params.tokens) return;
    const float* angles = params.table + static_cast<int64_t>(token) * 2 * params.half + column;
    const Floats cosine = Floats::load(angles), sine = Floats::load(angles + params.half);
    const auto offset = [&](const HeadStrides& strides, int64_t sequence) {
        return sequence * strides.batch + token * strides.token + head * strides.head + column;
    };
    for (int64_t sequence = blockIdx.y; sequence < params.batch; sequence += gridDim.y) {
        const T* in = params.in + offset(params.in_strides, sequence);
        T* out = params.out + offset(params.out_strides, sequence);
        const Pack first = Pack::load(in), second = Pack::load(in + params.half);
        const auto sin = [&](int i) { return params.sign * sine[i]; };
        Pack::of([&](int i) { return first[i] * cosine[i] - second[i] * sin(i); }).store(out);
        Pack::of([&](int i) { return second[i] * cosine[i] + first[i] * sin(i); }).store(out + params.half);
    }
}

/// Sequences that a thread processes for one load of the angles.
constexpr int64_t kSequences = 4;
constexpr int64_t kMostGridRows = 65535;

}  // namespace

void rope(CudaContext& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation) {
    const int64_t batch = in.size(0), tokens = in.size(1), heads = in.size(2), half = in.size(3) / 2;
    const bool aligned = allows_vectors(out) && allows_vectors(in) && allows_vectors(table);
    visit_float_type(in.dtype(), [&]<typename T>() {
        const RopeParams<T> params{device_data<T>(out),
                                   device_data<T>(in),
                                   table.data<float>(),
                                   HeadStrides(out),
                                   HeadStrides(in),
                                   static_cast<int>(batch),
                                   static_cast<unsigned>(tokens),
                                   static_cast<unsigned>(heads),
                                   static_cast<unsigned>(half),
                                   rotation == Rotation::kForward ? 1.0f : -1.0f};
        const auto run = [&]<int kWidth>() {
            const int64_t items = tokens * heads * (half / kWidth);
            PASTUR_CHECK(items + kThreads <= UINT32_MAX, "rope: {} has too many elements a sequence",
                         describe(in));
            const dim3 grid(ceil_div(items, kThreads), std::min(ceil_div(batch, kSequences), kMostGridRows));
            launch(ctx, grid, kThreads, 0, rope_kernel<T, kWidth>, params);
        };
        if (aligned && half % kVector<T> == 0)
            run.template operator()<kVector<T>>();
        else
            run.template operator()<1>();
    });
}

}  // namespace pastur
