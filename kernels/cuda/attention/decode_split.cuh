#pragma once
// What the kernels of decode_attention share: the division of a cache into splits, the arguments, the softmax of a tile.
#include "kernels/attention/decode_attention.h"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

inline constexpr int kDecodeThreads = 128, kDecodeWarps = kDecodeThreads / kWarp;
inline constexpr int kDecodeTile = 64;  ///< entries whose scores are in shared memory at a time
static_assert(kDecodeSplit % kDecodeTile == 0 && kDecodeTile == 2 * kWarp);

/// Strides in elements; 0 where a tensor has no such dimension.
template <typename T>
struct Rows3 {
    const T* data;
    int64_t batch, entry, head;
    __device__ const T* at(int64_t b, int64_t j, int64_t h) const {
        return data + b * batch + j * entry + h * head;
    }
};

template <typename T>
struct DecodeParams {
    Rows3<T> q, q_shared;  ///< entry: 0
    Rows3<T> k, v;
    Rows3<T> k_shared;  ///< head: 0
    const int32_t* lengths;
    int heads, group;  ///< query heads; of a key head
    int content, rotary, value, splits;
    float scale;      ///< times log2 e, for a softmax in base 2
    float* partial;   ///< [B, H, splits, value]: sum of 2^(s - maximum) v
    float2* softmax;  ///< [B, H, splits]: maximum, sum of 2^(s - maximum)
};

/// What a CTA has of the work: the entries [begin, end) of a sequence, none if the sequence ends before, and up to
/// kHeads query heads of one key head. blockIdx.x counts (split, key head, kHeads of its query heads), z sequences.
struct SplitPosition {
    int64_t sequence;
    int split, kv, first_head, heads;  ///< heads: the query heads that there are
    int begin, end;

    template <typename T>
    __device__ SplitPosition(const DecodeParams<T>& p, int kHeads) : sequence(blockIdx.z) {
        const int head_groups = (p.group + kHeads - 1) / kHeads, groups = head_groups * (p.heads / p.group);
        split = blockIdx.x / groups;
        kv = blockIdx.x % groups / head_groups;
        const int first_in_group = blockIdx.x % groups % head_groups * kHeads;
        first_head = kv * p.group + first_in_group;
        heads = min(kHeads, p.group - first_in_group);
        begin = split * static_cast<int>(kDecodeSplit);
        end = min(p.lengths[sequence], begin + static_cast<int>(kDecodeSplit));
    }
    /// The row of a head in `partial` and `softmax`.
    template <typename T>
    __device__ int64_t row(const DecodeParams<T>& p, int head) const {
        return (sequence * p.heads + first_head + head) * p.splits + split;
    }
};

/// The softmaxes of kHeads heads over the tiles so far, in shared memory.
template <int kHeads>
struct RunningSoftmax {
    float *maximum, *sum, *rescale;  ///< [kHeads] each

    static constexpr int kFloats = 3 * kHeads;
    __device__ explicit RunningSoftmax(float* memory)
        : maximum(memory), sum(memory + kHeads), rescale(memory + 2 * kHeads) {}

    __device__ void clear() const {
        if (threadIdx.x < kHeads) maximum[threadIdx.x] = -INFINITY, sum[threadIdx.x] = 0;
    }

    /// The scores of a tile, [kHeads, pitch], become exponentials, a warp per head; `rescale` is the factor of what
    /// was summed before. Maxima pass over a NaN, but it stays in the exponentials and so in the sum.
    __device__ void exponentiate(float* scores, int pitch) const {
        const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
        for (int h = warp; h < kHeads; h += kDecodeWarps) {
            float* row = scores + h * pitch + lane;
            const float before = maximum[h];
            const float largest = fmaxf(before, warp_max(fmaxf(row[0], row[kWarp])));
            row[0] = exp2f(row[0] - largest);
            row[kWarp] = exp2f(row[kWarp] - largest);
            const float added = warp_sum(row[0] + row[kWarp]);
            if (lane == 0) {
                rescale[h] = exp2f(before - largest);
                maximum[h] = largest;
                sum[h] = sum[h] * rescale[h] + added;
            }
        }
    }

    template <typename T>
    __device__ void write(const DecodeParams<T>& p, const SplitPosition& position) const {
        const int h = threadIdx.x;
        if (h < position.heads) p.softmax[position.row(p, h)] = {maximum[h], sum[h]};
    }
};

/// Whether launch_decode_mma() takes the inputs, and is the faster kernel for them: the query heads of a key head fill a
/// good part of the 16 rows of an mma.
bool decode_mma_takes(const DecodeParams<bf16>& p);

/// Writes `partial` and `softmax` with tensor cores. Rows of k, k_shared and v are aligned to 16 bytes and have a multiple
/// of 8 columns.
void launch_decode_mma(CudaContext& ctx, const DecodeParams<bf16>& p, int64_t batch);

}  // namespace pastur
