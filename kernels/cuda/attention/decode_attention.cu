// Attention of one query per sequence over a cache. A CTA owns kDecodeSplit entries of a key head of a sequence and writes
// the softmax's maximum and sum and the output so far, in fp32; a second kernel combines the splits in ascending order.
//
// The kernel here runs on CUDA cores: the time is that of reading the cache, each byte of which is read once for up to 8
// query heads. Where more heads share a key, their arithmetic takes longer than the bytes: decode_mma.cu.
#include <algorithm>

#include "kernels/cuda/attention/decode_split.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur {
namespace {

constexpr int kThreads = kDecodeThreads, kWarps = kDecodeWarps, kTile = kDecodeTile;
constexpr int kBatch = 4;                 ///< entries that a lane reads at once, to have more loads in flight
constexpr int kColumnVectors = kThreads;  ///< of the output that a CTA owns
constexpr float kLog2E = 1.44269504f;

/// The smallest power of two that is at least `count`, at most `most`.
__host__ __device__ constexpr int lanes_for(int count, int most) {
    int lanes = 1;
    while (lanes < count && lanes < most) lanes *= 2;
    return lanes;
}

/// Floats of a query head in shared memory: both parts, each padded to whole vectors.
__host__ __device__ constexpr int padded(int columns) {
    return (columns + 7) / 8 * 8;
}

template <int kHeads, int kWidth>
constexpr int64_t shared_floats(int content, int rotary) {
    return kHeads * (padded(content) + padded(rotary)) + kHeads * kTile + RunningSoftmax<kHeads>::kFloats +
           kThreads * kWidth;
}

/// sum[j][h] += q_h x_j over a part of the columns, for kBatch rows x_j. A row is shared by `lanes` lanes.
template <typename T, int kHeads, int kWidth>
__device__ void add_products(float (&sum)[kBatch][kHeads], const T* const (&rows)[kBatch], const float* q,
                             int pitch, int columns, int lane, int lanes) {
    using Pack = Packed<T, kWidth>;
    for (int c = lane * kWidth; c < columns; c += lanes * kWidth) {
        Pack x[kBatch];
#pragma unroll
        for (int j = 0; j < kBatch; ++j) x[j] = Pack::load(rows[j] + c);
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            const auto factors = Packed<float, kWidth>::load(q + h * pitch + c);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) {
#pragma unroll
                for (int j = 0; j < kBatch; ++j) sum[j][h] += factors[i] * x[j][i];
            }
        }
    }
}

template <typename T, int kHeads, int kWidth>
struct Split {
    using Pack = Packed<T, kWidth>;
    const DecodeParams<T>& p;
    SplitPosition position;
    int thread, warp, pitch;
    // Shared memory.
    float *q, *scores;  ///< [kHeads, pitch], [kHeads, kTile]
    RunningSoftmax<kHeads> softmax;
    float* shares;  ///< [kThreads, kWidth]
    /// Of the output: a thread owns a vector of columns and every n-th entry.
    int column, vectors, first_entry, entry_stride;
    bool owns;

    __device__ Split(const DecodeParams<T>& params, float4* shared_memory)
        : p(params),
          position(params, kHeads),
          thread(threadIdx.x),
          warp(thread / kWarp),
          pitch(padded(p.content) + padded(p.rotary)),
          q(reinterpret_cast<float*>(shared_memory)),
          scores(q + kHeads * pitch),
          softmax(scores + kHeads * kTile),
          shares(scores + kHeads * kTile + RunningSoftmax<kHeads>::kFloats) {
        const int first_column = blockIdx.y * kColumnVectors * kWidth;
        const int columns = min(p.value - first_column, kColumnVectors * kWidth);
        vectors = lanes_for((columns + kWidth - 1) / kWidth, kThreads);
        column = first_column + thread % vectors * kWidth;
        first_entry = thread / vectors;
        entry_stride = kThreads / vectors;
        owns = column < first_column + columns;
    }

    /// The queries, scaled, padding and missing heads as zeros; an empty softmax.
    __device__ void load_queries() const {
        for (int i = thread; i < kHeads * pitch; i += kThreads) {
            const int h = i / pitch, c = i % pitch, r = c - padded(p.content);
            float x = 0;
            const int64_t sequence = position.sequence, head = position.first_head + h;
            if (h < position.heads && c < p.content) x = to_float(p.q.at(sequence, 0, head)[c]);
            if (h < position.heads && r >= 0 && r < p.rotary)
                x = to_float(p.q_shared.at(sequence, 0, head)[r]);
            q[i] = x * p.scale;
        }
        softmax.clear();
    }

    /// The scores of `entries` entries from `tile` on; those of a whole tile that are missing become -infinity. As many
    /// lanes share an entry's row as it has vectors.
    __device__ void score(int tile, int entries) const {
        const int lanes = lanes_for(max(p.content, p.rotary) / kWidth, kWarp), per_warp = kWarp / lanes;
        const int lane = thread % lanes, of_warp = thread % kWarp / lanes;
        for (int first = 0; first < kTile; first += kWarps * per_warp * kBatch) {
            float s[kBatch][kHeads] = {};
            const T *k[kBatch], *k_shared[kBatch];
            int entry[kBatch];
#pragma unroll
            for (int j = 0; j < kBatch; ++j) {
                entry[j] = first + (j * kWarps + warp) * per_warp + of_warp;
                const int64_t row = tile + min(entry[j], entries - 1);  // a missing one: read and dropped
                k[j] = p.k.at(position.sequence, row, position.kv);
                k_shared[j] = p.k_shared.at(position.sequence, row, 0);
            }
            add_products<T, kHeads, kWidth>(s, k, q, pitch, p.content, lane, lanes);
            add_products<T, kHeads, kWidth>(s, k_shared, q + padded(p.content), pitch, p.rotary, lane, lanes);
#pragma unroll
            for (int j = 0; j < kBatch; ++j) {
#pragma unroll
                for (int h = 0; h < kHeads; ++h) {
                    for (int offset = lanes / 2; offset > 0; offset /= 2)
                        s[j][h] += __shfl_xor_sync(kAllLanes, s[j][h], offset);
                    if (lane == 0 && entry[j] < kTile)
                        scores[h * kTile + entry[j]] = entry[j] < entries ? s[j][h] : -INFINITY;
                }
            }
        }
    }

    /// The first kBatch of this thread's entries of v, which need not wait for the scores.
    __device__ void load_values(Pack (&v)[kBatch], int tile, int entries) const {
#pragma unroll
        for (int j = 0; j < kBatch; ++j) {
            const int entry = first_entry + j * entry_stride;
            if (owns && entry < entries) v[j] = Pack::load(value(tile + entry));
        }
    }
    __device__ const T* value(int64_t entry) const {
        return p.v.at(position.sequence, entry, position.kv) + column;
    }

    /// out = rescale out + exponentials v, this thread's entries, of which v has the first ones.
    __device__ void accumulate(float (&out)[kHeads][kWidth], const Pack (&v)[kBatch], int tile,
                               int entries) const {
        if (!owns) return;
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
#pragma unroll
            for (int i = 0; i < kWidth; ++i) out[h][i] *= softmax.rescale[h];
        }
#pragma unroll
        for (int j = 0; j < kBatch; ++j) {
            const int entry = first_entry + j * entry_stride;
            if (entry < entries) add_value(out, v[j], entry);
        }
#pragma unroll 4
        for (int entry = first_entry + kBatch * entry_stride; entry < entries; entry += entry_stride)
            add_value(out, Pack::load(value(tile + entry)), entry);
    }
    __device__ void add_value(float (&out)[kHeads][kWidth], const Pack& v, int entry) const {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            const float weight = scores[h * kTile + entry];
#pragma unroll
            for (int i = 0; i < kWidth; ++i) out[h][i] += weight * v[i];
        }
    }

    /// Adds the threads of each vector of columns in ascending order and writes the sums.
    __device__ void write(const float (&out)[kHeads][kWidth]) const {
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
            if (h >= position.heads) break;
#pragma unroll
            for (int i = 0; i < kWidth; ++i) shares[thread * kWidth + i] = out[h][i];
            __syncthreads();
            if (first_entry == 0 && owns) {
                float* to = p.partial + position.row(p, h) * p.value + column;
#pragma unroll
                for (int i = 0; i < kWidth; ++i) {
                    float total = 0;
                    for (int n = 0; n < entry_stride; ++n)
                        total += shares[(n * vectors + thread) * kWidth + i];
                    to[i] = total;
                }
            }
            __syncthreads();
        }
        if (blockIdx.y == 0) softmax.write(p, position);
    }
};

/// S_j = scale (q k_j + q_shared k_shared_j); partial = sum_j 2^(S_j - m) v_j with m = max_j S_j, and their sum. One CTA
/// per (split, key head and kHeads of its query heads, chunk of kColumnVectors vectors of v, sequence); a split beyond
/// the sequence's length has nothing to do. kWidth: columns per load, of which all widths are multiples and to which all
/// rows are aligned.
template <typename T, int kHeads, int kWidth>
__global__ void __launch_bounds__(kThreads) decode_split_kernel(const DecodeParams<T> p) {
    extern __shared__ float4 shared_memory[];
    const Split<T, kHeads, kWidth> split(p, shared_memory);
    if (split.position.begin >= split.position.end) return;
    split.load_queries();
    __syncthreads();
    float out[kHeads][kWidth] = {};
    for (int tile = split.position.begin; tile < split.position.end; tile += kTile) {
        const int entries = min(kTile, split.position.end - tile);
        Packed<T, kWidth> v[kBatch];
        split.load_values(v, tile, entries);
        split.score(tile, entries);
        __syncthreads();
        split.softmax.exponentiate(split.scores, kTile);
        __syncthreads();
        split.accumulate(out, v, tile, entries);
        __syncthreads();
    }
    split.write(out);
}

template <typename T>
struct CombineParams {
    T* out;
    int64_t batch, head;  ///< strides of out
    const int32_t* lengths;
    int value, splits;
    const float* partial;
    const float2* softmax;
};

/// out = sum_n 2^(m_n - m) partial_n / sum_n 2^(m_n - m) sum_n over the splits n of a head, in ascending order, with m
/// the largest m_n. One CTA per head and sequence; a thread owns every kThreads-th column.
template <typename T>
__global__ void __launch_bounds__(kThreads) decode_combine_kernel(const CombineParams<T> p) {
    const int64_t b = blockIdx.y, head = blockIdx.x, row = (b * gridDim.x + head) * p.splits;
    const int splits = (p.lengths[b] + static_cast<int>(kDecodeSplit) - 1) / static_cast<int>(kDecodeSplit);
    float largest = -INFINITY, sum = 0;
#pragma unroll 8
    for (int n = 0; n < splits; ++n) largest = fmaxf(largest, p.softmax[row + n].x);
#pragma unroll 8
    for (int n = 0; n < splits; ++n) sum += exp2f(p.softmax[row + n].x - largest) * p.softmax[row + n].y;
    for (int c = threadIdx.x; c < p.value; c += kThreads) {
        float total = 0;
#pragma unroll 8
        for (int n = 0; n < splits; ++n)
            total += exp2f(p.softmax[row + n].x - largest) * p.partial[(row + n) * p.value + c];
        p.out[b * p.batch + head * p.head + c] = from_float<T>(total / sum);
    }
}

template <typename T>
Rows3<T> rows3(const ConstTensor& x) {
    if (x.empty()) return {nullptr, 0, 0, 0};
    return {device_data<T>(x), x.stride(0), x.stride(1), x.rank() == 4 ? x.stride(2) : 0};
}
/// Of queries [B, H, width], which have no entries.
template <typename T>
Rows3<T> query_rows(const ConstTensor& x) {
    if (x.empty()) return {nullptr, 0, 0, 0};
    return {device_data<T>(x), x.stride(0), 0, x.stride(1)};
}

int64_t splits_of(int64_t entries) {
    return ceil_div(entries, kDecodeSplit);
}
/// The shape of DecodeParams::partial for sequences of up to `entries`.
Shape partial_shape(const DecodeInputs& in, int64_t entries) {
    return {in.q.size(0), in.q.size(1), splits_of(entries), in.v.size(3)};
}
Shape softmax_shape(const DecodeInputs& in, int64_t entries) {
    return {in.q.size(0), in.q.size(1), splits_of(entries), 2};
}

/// Whether all rows can be read in vectors of T.
template <typename T>
bool reads_vectors(const DecodeInputs& in) {
    const auto fits = [](const ConstTensor& x) {
        return x.empty() || (allows_vectors(x) && x.size(-1) % kVector<T> == 0);
    };
    return fits(in.k) && fits(in.k_shared) && fits(in.v);
}

template <typename T, int kHeads, int kWidth>
void launch_splits(CudaContext& ctx, const DecodeParams<T>& p, int64_t batch) {
    const int64_t groups = ceil_div(p.group, kHeads) * (p.heads / p.group);
    const dim3 grid(static_cast<unsigned>(p.splits * groups),
                    static_cast<unsigned>(ceil_div(p.value, kColumnVectors * kWidth)),
                    static_cast<unsigned>(batch));
    const auto bytes =
        static_cast<size_t>(shared_floats<kHeads, kWidth>(p.content, p.rotary)) * sizeof(float);
    launch(ctx, grid, kThreads, bytes, decode_split_kernel<T, kHeads, kWidth>, p);
}

template <typename T, int kWidth>
void launch_splits(CudaContext& ctx, const DecodeParams<T>& p, int64_t batch) {
    if (p.group == 1)
        launch_splits<T, 1, kWidth>(ctx, p, batch);
    else if (p.group == 2)
        launch_splits<T, 2, kWidth>(ctx, p, batch);
    else if (p.group <= 4)
        launch_splits<T, 4, kWidth>(ctx, p, batch);
    else
        launch_splits<T, 8, kWidth>(ctx, p, batch);
}

/// vectors: whether all rows can be read in vectors.
template <typename T>
void launch_splits(CudaContext& ctx, const DecodeParams<T>& p, bool vectors, int64_t batch) {
    if constexpr (std::is_same_v<T, bf16>)
        if (vectors && decode_mma_takes(p)) return launch_decode_mma(ctx, p, batch);
    if (vectors)
        launch_splits<T, kVector<T>>(ctx, p, batch);
    else
        launch_splits<T, 1>(ctx, p, batch);
}

}  // namespace

void decode_attention(CudaContext& ctx, Tensor out, const DecodeInputs& in) {
    const int64_t batch = in.q.size(0), heads = in.q.size(1);
    PASTUR_CHECK(batch < 65536, "decode_attention: {} sequences, expected fewer than 65536", batch);
    Arena::Frame frame(ctx.scratch(), "decode_attention");
    const Tensor partial = frame.take(DType::kF32, partial_shape(in, in.longest)),
                 softmax = frame.take(DType::kF32, softmax_shape(in, in.longest));
    visit_float_type(in.q.dtype(), [&]<typename T>() {
        const DecodeParams<T> p{query_rows<T>(in.q),
                                query_rows<T>(in.q_shared),
                                rows3<T>(in.k),
                                rows3<T>(in.v),
                                rows3<T>(in.k_shared),
                                in.lengths.data<int32_t>(),
                                static_cast<int>(heads),
                                static_cast<int>(heads / in.k.size(2)),
                                static_cast<int>(in.q.size(2)),
                                static_cast<int>(in.q_shared.empty() ? 0 : in.q_shared.size(2)),
                                static_cast<int>(in.v.size(3)),
                                static_cast<int>(splits_of(in.longest)),
                                in.scale * kLog2E,
                                partial.data<float>(),
                                reinterpret_cast<float2*>(softmax.data<float>())};
        launch_splits(ctx, p, reads_vectors<T>(in), batch);
        const CombineParams<T> combine{device_data<T>(out), out.stride(0), out.stride(1),
                                       p.lengths,           p.value,       p.splits,
                                       p.partial,           p.softmax};
        launch(ctx, dim3(static_cast<unsigned>(heads), static_cast<unsigned>(batch)), kThreads, 0,
               decode_combine_kernel<T>, combine);
    });
}

int64_t decode_attention_scratch_bytes(CudaContext&, const DecodeInputs& in) {
    const int64_t entries = in.k.size(1);
    return align_up(partial_shape(in, entries).numel() * size_of(DType::kF32)) +
           align_up(softmax_shape(in, entries).numel() * size_of(DType::kF32));
}

}  // namespace pastur
