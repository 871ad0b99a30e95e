#include "kernels/attention/temporal_merge.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
/// Vectors of a latent that a lane keeps in registers at a time: 512 columns of bf16 for a warp. Wider
/// latents are walked in pieces of so many columns.
constexpr int kPacks = 2;

template <typename T>
struct MergeParams {
    Rows<const T> c, latent_code, chunk_code;
    const float *latent_bias, *chunk_bias;
    int time, stride, chunks, width, code;
    int64_t items;         ///< chunks of all sequences
    const int* first_key;  ///< [B, T], or null

    /// Whether token n, of all sequences, is the first of a document.
    __device__ bool begins_document(int64_t n) const {
        return first_key != nullptr && first_key[n] == static_cast<int>(n % time);
    }
};

/// The chunk of a warp: tokens [begin, end) as rows of the tensors.
struct WarpChunk {
    int64_t begin, end;
    int number;

    template <typename T>
    __device__ WarpChunk(const MergeParams<T>& params, int64_t item) {
        const int64_t sequence = item / params.chunks;
        number = static_cast<int>(item % params.chunks);
        const int first = number * params.stride;
        begin = sequence * params.time + first;
        end = sequence * params.time + min(first + params.stride, params.time);
    }
};

__device__ inline int64_t warp_item() {
    return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
}

template <int kWidth>
__device__ __forceinline__ void clear_sums(float (&sums)[kPacks][kWidth]) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
        for (int i = 0; i < kWidth; ++i) sums[p][i] = 0;
    }
}

/// gate and out of a chunk by one warp: first its gates, then the sums, in fp32, of kPacks vectors of columns
/// a lane. Every row is aligned for Packed<T, kWidth>; the width is a multiple of kWidth. Codes are read one
/// number at a time.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    temporal_merge_forward_kernel(Rows<T> out, float* gate, MergeParams<T> params) {
    using Pack = Packed<T, kWidth>;
    const int64_t item = warp_item();
    if (item >= params.items) return;
    const int lane = threadIdx.x % kWarp;
    const WarpChunk chunk(params, item);
    const T* chunk_code = params.chunk_code[chunk.number];
    for (int64_t n = chunk.begin; n < chunk.end; ++n) {
        const T* latent_code = params.latent_code[n];
        float z = 0;
        for (int i = lane; i < params.code; i += kWarp)
            z += (to_float(latent_code[i]) + params.latent_bias[i]) *
                 (to_float(chunk_code[i]) + params.chunk_bias[i]);
        z = warp_sum(z);
        if (lane == 0) gate[n] = 1.0f / (1.0f + expf(-z));
    }
    __syncwarp();  // before other lanes read the gates

    const int vectors = params.width / kWidth;
    for (int first = lane; first < vectors; first += kPacks * kWarp) {
        float sums[kPacks][kWidth] = {};
        for (int64_t n = chunk.begin; n < chunk.end; ++n) {
            const float w = gate[n];
            if (params.begins_document(n)) clear_sums(sums);
#pragma unroll
            for (int p = 0; p < kPacks; ++p) {
                const int v = first + p * kWarp;
                if (v >= vectors) continue;
                const Pack c = Pack::load(params.c[n] + v * kWidth);
#pragma unroll
                for (int i = 0; i < kWidth; ++i) sums[p][i] += w * c[i];
                Pack::of([&](int i) { return sums[p][i]; }).store(out[n] + v * kWidth);
            }
        }
    }
}

/// dc, dz and dlatent_code of a chunk by one warp, which walks its tokens backwards with A in registers. dz
/// holds A . c until the last piece of columns is done. dc may be dout: a lane reads each vector before it
/// writes it.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    temporal_merge_backward_kernel(Rows<T> dc, Rows<T> dlatent_code, float* dz, Rows<const T> dout,
                                   const float* gate, MergeParams<T> params) {
    using Pack = Packed<T, kWidth>;
    const int64_t item = warp_item();
    if (item >= params.items) return;
    const int lane = threadIdx.x % kWarp;
    const WarpChunk chunk(params, item);
    const int vectors = params.width / kWidth;
    for (int piece = 0; piece < vectors; piece += kPacks * kWarp) {
        float sums[kPacks][kWidth] = {};
        for (int64_t n = chunk.end - 1; n >= chunk.begin; --n) {
            const float w = gate[n];
            float dot = 0;
            if (n + 1 < chunk.end && params.begins_document(n + 1)) clear_sums(sums);
#pragma unroll
            for (int p = 0; p < kPacks; ++p) {
                const int v = piece + lane + p * kWarp;
                if (v >= vectors) continue;
                const Pack from = Pack::load(dout[n] + v * kWidth), c = Pack::load(params.c[n] + v * kWidth);
#pragma unroll
                for (int i = 0; i < kWidth; ++i) {
                    sums[p][i] += from[i];
                    dot += sums[p][i] * c[i];
                }
                Pack::of([&](int i) { return w * sums[p][i]; }).store(dc[n] + v * kWidth);
            }
            dot = warp_sum(dot);
            if (lane == 0) dz[n] = piece == 0 ? dot : dz[n] + dot;
        }
    }
    __syncwarp();  // before other lanes read dz
    const T* chunk_code = params.chunk_code[chunk.number];
    for (int64_t n = chunk.begin; n < chunk.end; ++n) {
        const float w = gate[n], slope = dz[n] * w * (1 - w);
        for (int i = lane; i < params.code; i += kWarp)
            dlatent_code[n][i] = from_float<T>(slope * (to_float(chunk_code[i]) + params.chunk_bias[i]));
        __syncwarp();  // every lane has read dz[n]
        if (lane == 0) dz[n] = slope;
    }
}

constexpr int kSumRows = 8;

/// dchunk_code, and code_sums [chunks, code], the same in fp32; dz_sums [chunks]. A block owns 32 columns of
/// one chunk: warp y adds sequences y, y + 8, ... in order, then the first warp adds the 8 sums in order.
template <typename T>
__global__ void __launch_bounds__(kWarp* kSumRows)
    temporal_merge_chunk_kernel(Rows<T> dchunk_code, float* code_sums, float* dz_sums, const float* dz,
                                int64_t sequences, MergeParams<T> params) {
    __shared__ float shared[2][kSumRows][kWarp];
    const int number = static_cast<int>(blockIdx.x),
              column = static_cast<int>(blockIdx.y) * kWarp + threadIdx.x;
    const int first = number * params.stride, last = min(first + params.stride, params.time);
    const bool inside = column < params.code;
    const float bias = inside ? params.latent_bias[column] : 0;
    float sum = 0, dz_sum = 0;
    for (int64_t s = threadIdx.y; s < sequences; s += kSumRows) {
#pragma unroll 2
        for (int t = first; t < last; ++t) {
            const int64_t n = s * params.time + t;
            const float slope = dz[n];
            if (inside) sum += slope * (to_float(params.latent_code[n][column]) + bias);
            dz_sum += slope;
        }
    }
    shared[0][threadIdx.y][threadIdx.x] = sum;
    shared[1][threadIdx.y][threadIdx.x] = dz_sum;
    __syncthreads();
    if (threadIdx.y > 0) return;
    sum = dz_sum = 0;
    for (int y = 0; y < kSumRows; ++y) {
        sum += shared[0][y][threadIdx.x];
        dz_sum += shared[1][y][threadIdx.x];
    }
    if (blockIdx.y == 0 && threadIdx.x == 0) dz_sums[number] = dz_sum;
    if (!inside) return;
    dchunk_code[number][column] = from_float<T>(sum);
    code_sums[static_cast<int64_t>(number) * params.code + column] = sum;
}

/// dlatent_bias = or += sum_j dz_sums[j] (chunk_code_j + chunk_bias); dchunk_bias = or += sum_j code_sums_j.
/// A block owns 32 columns: warp y adds chunks y, y + 8, ... in order, then the first warp adds the 8 sums in
/// order.
template <typename T>
__global__ void __launch_bounds__(kWarp* kSumRows)
    temporal_merge_bias_kernel(float* dlatent_bias, float* dchunk_bias, bool accumulate,
                               const float* code_sums, const float* dz_sums, MergeParams<T> params) {
    __shared__ float shared[2][kSumRows][kWarp];
    const int column = static_cast<int>(blockIdx.x) * kWarp + threadIdx.x;
    const bool inside = column < params.code;
    const float bias = inside ? params.chunk_bias[column] : 0;
    float latent = 0, chunk = 0;
    for (int j = threadIdx.y; inside && j < params.chunks; j += kSumRows) {
        latent += dz_sums[j] * (to_float(params.chunk_code[j][column]) + bias);
        chunk += code_sums[static_cast<int64_t>(j) * params.code + column];
    }
    shared[0][threadIdx.y][threadIdx.x] = latent;
    shared[1][threadIdx.y][threadIdx.x] = chunk;
    __syncthreads();
    if (threadIdx.y > 0 || !inside) return;
    latent = chunk = 0;
    for (int y = 0; y < kSumRows; ++y) {
        latent += shared[0][y][threadIdx.x];
        chunk += shared[1][y][threadIdx.x];
    }
    dlatent_bias[column] = accumulate ? dlatent_bias[column] + latent : latent;
    dchunk_bias[column] = accumulate ? dchunk_bias[column] + chunk : chunk;
}

/// One thread per pair of columns.
template <typename T>
__global__ void __launch_bounds__(kThreads) chunk_positions_kernel(T* positions, int64_t chunks, int width) {
    const int pairs = (width + 1) / 2;
    const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    const int64_t chunk = index / pairs;
    if (chunk >= chunks) return;
    const int column = static_cast<int>(index % pairs) * 2;
    const double angle = static_cast<double>(chunk) * pow(10000.0, -static_cast<double>(column) / width);
    double sine = 0, cosine = 0;
    sincos(angle, &sine, &cosine);
    T* to = positions + chunk * width + column;
    to[0] = from_float<T>(static_cast<float>(sine));
    if (column + 1 < width) to[1] = from_float<T>(static_cast<float>(cosine));
}

template <typename T>
MergeParams<T> params_of(const TemporalMerge& in) {
    const auto narrow = [](int64_t size) { return static_cast<int>(size); };
    return {.c = rows_of<T>(in.c),
            .latent_code = rows_of<T>(in.latent_code),
            .chunk_code = rows_of<T>(in.chunk_code),
            .latent_bias = in.latent_bias.data<float>(),
            .chunk_bias = in.chunk_bias.data<float>(),
            .time = narrow(in.time),
            .stride = narrow(std::min(in.stride, in.time)),
            .chunks = narrow(in.chunk_code.size(0)),
            .width = narrow(in.c.size(1)),
            .code = narrow(in.latent_code.size(1)),
            .items = in.c.size(0) / in.time * in.chunk_code.size(0),
            .first_key = in.first_key.empty() ? nullptr : in.first_key.data<int32_t>()};
}

/// Calls run.template operator()<T, kWidth>() with wide accesses where latents are aligned for them.
template <typename Run>
void visit_latents(const TemporalMerge& in, bool aligned, const Run& run) {
    visit_float_type(in.c.dtype(), [&]<typename T>() {
        if (aligned && allows_vectors(in.c) && in.c.size(1) % kVector<T> == 0)
            run.template operator()<T, kVector<T>>();
        else
            run.template operator()<T, 1>();
    });
}

}  // namespace

void chunk_positions(CudaContext& ctx, Tensor positions) {
    const int64_t chunks = positions.size(0), width = positions.size(1);
    visit_float_type(positions.dtype(), [&]<typename T>() {
        launch(ctx, ceil_div(chunks * ((width + 1) / 2), kThreads), kThreads, 0, chunk_positions_kernel<T>,
               device_data<T>(positions), chunks, width);
    });
}

void temporal_merge_forward(CudaContext& ctx, Tensor out, Tensor gate, const TemporalMerge& in) {
    visit_latents(in, allows_vectors(out), [&]<typename T, int kWidth>() {
        const MergeParams<T> params = params_of<T>(in);
        launch(ctx, ceil_div(params.items, kWarps), kThreads, 0, temporal_merge_forward_kernel<T, kWidth>,
               rows_of<T>(out), gate.data<float>(), params);
    });
}

void temporal_merge_backward(CudaContext& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in) {
    const int64_t chunks = in.chunk_code.size(0), code = in.latent_code.size(1);
    Arena::Frame frame(ctx.scratch(), "temporal_merge_backward");
    float* dz = frame.take(DType::kF32, {in.c.size(0)}).data<float>();
    float* code_sums = frame.take(DType::kF32, {chunks, code}).data<float>();
    float* dz_sums = frame.take(DType::kF32, {chunks}).data<float>();
    visit_latents(in, allows_vectors(grads.dc) && allows_vectors(dout), [&]<typename T, int kWidth>() {
        const MergeParams<T> params = params_of<T>(in);
        launch(ctx, ceil_div(params.items, kWarps), kThreads, 0, temporal_merge_backward_kernel<T, kWidth>,
               rows_of<T>(grads.dc), rows_of<T>(grads.dlatent_code), dz, rows_of<T>(dout), gate.data<float>(),
               params);
        const dim3 chunk_grid(static_cast<unsigned>(chunks), static_cast<unsigned>(ceil_div(code, kWarp)));
        launch(ctx, chunk_grid, dim3(kWarp, kSumRows), 0, temporal_merge_chunk_kernel<T>,
               rows_of<T>(grads.dchunk_code), code_sums, dz_sums, dz, in.c.size(0) / in.time, params);
        launch(ctx, ceil_div(code, kWarp), dim3(kWarp, kSumRows), 0, temporal_merge_bias_kernel<T>,
               grads.dlatent_bias.data<float>(), grads.dchunk_bias.data<float>(),
               grads.bias_update == Update::kAccumulate, code_sums, dz_sums, params);
    });
}

int64_t temporal_merge_backward_scratch_bytes(CudaContext&, const TemporalMerge& in) {
    const auto floats = [](int64_t count) { return align_up(count * size_of(DType::kF32)); };
    const int64_t chunks = in.chunk_code.size(0);
    return floats(in.c.size(0)) + floats(chunks * in.latent_code.size(1)) + floats(chunks);
}

}  // namespace pastur
