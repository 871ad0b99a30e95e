// decode_attention on tensor cores, for key heads that many query heads share: the latents of absorbed attention. The
// heads are the 16 rows of an mma, so that a column of the cache costs one instruction for all of them.
//
// Operands come from global memory straight into fragments. An mma sums over its 16 columns in any order, and the columns
// of its result may stand for any columns of v; so a lane takes the 8 adjacent columns of 16 bytes where the layout of
// mma.cuh would have it take pairs, in keys and queries alike.
#include "kernels/cuda/attention/decode_split.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace pastur {
namespace {

constexpr int kHeads = 16;
constexpr int kKeyBlock = 32;  ///< columns of keys that a warp reads at once: 8 of a lane
constexpr int kValueBlock =
    64;  ///< columns of values that a warp owns at once: 8 of each of 8 groups of lanes
constexpr int kBlocksOfWarp = 2;  ///< blocks of values whose sums a warp holds in registers
constexpr int kColumnsOfCta = kDecodeWarps * kBlocksOfWarp * kValueBlock;
/// Floats from one row of scores in shared memory to the next: adjacent rows begin in different halves of the banks.
constexpr int kScorePitch = kDecodeTile + 16;
constexpr int kEntriesOfWarp = kDecodeTile / kDecodeWarps;
static_assert(kEntriesOfWarp == 16, "a warp scores two mma of 8 entries");

/// Columns of a part of the queries in shared memory, with zeros behind those that there are.
__host__ __device__ constexpr int padded_part(int columns) {
    return (columns + kKeyBlock - 1) / kKeyBlock * kKeyBlock;
}
/// bf16 numbers from one row of queries in shared memory to the next, an odd multiple of 64 bytes: adjacent rows begin in
/// different halves of the banks.
__host__ __device__ constexpr int query_pitch(int content, int rotary) {
    return (padded_part(content) + padded_part(rotary)) / 64 * 64 + 32;
}
constexpr size_t shared_bytes(int content, int rotary) {
    return static_cast<size_t>(kHeads * (kScorePitch * static_cast<int>(sizeof(float)) +
                                         query_pitch(content, rotary) * static_cast<int>(sizeof(bf16)))) +
           RunningSoftmax<kHeads>::kFloats * sizeof(float);
}

__device__ inline uint4 load_16(const bf16* from, bool valid) {
    return valid ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
}

struct MmaSplit {
    const DecodeParams<bf16>& p;
    SplitPosition position;
    int lane, warp, g, t;  ///< g, t: of the lane's fragments, as in mma.cuh
    int pitch, first_column;
    float* scores;  ///< [kHeads, kScorePitch]
    bf16* q;        ///< [kHeads, pitch]
    RunningSoftmax<kHeads> softmax;

    __device__ explicit MmaSplit(const DecodeParams<bf16>& params)
        : p(params),
          position(params, kHeads),
          lane(threadIdx.x % kWarp),
          warp(threadIdx.x / kWarp),
          g(lane / 4),
          t(lane % 4),
          pitch(query_pitch(params.content, params.rotary)),
          first_column(blockIdx.y * kColumnsOfCta),
          scores(reinterpret_cast<float*>(dynamic_shared())),
          q(reinterpret_cast<bf16*>(scores + kHeads * kScorePitch)),
          softmax(reinterpret_cast<float*>(q + kHeads * pitch)) {}

    /// The queries, padding and missing heads as zeros; an empty softmax.
    __device__ void load_queries() const {
        for (int i = threadIdx.x; i < kHeads * pitch; i += kDecodeThreads) {
            const int h = i / pitch, c = i % pitch, r = c - padded_part(p.content);
            bf16 x = from_float<bf16>(0.0f);
            if (h < position.heads && c < p.content)
                x = p.q.at(position.sequence, 0, position.first_head + h)[c];
            if (h < position.heads && r >= 0 && r < p.rotary)
                x = p.q_shared.at(position.sequence, 0, position.first_head + h)[r];
            q[i] = x;
        }
        softmax.clear();
    }

    /// s[i] += q k^T for one part of the columns and the entry rows[i] of this lane.
    __device__ void add_products(float (&s)[2][4], const bf16* const (&rows)[2], int q_column,
                                 int columns) const {
        const bf16* top = q + g * pitch + q_column + 8 * t;
#pragma unroll 4
        for (int c = 0; c < columns; c += kKeyBlock) {
            const bool inside = c + 8 * t < columns;
            const uint4 x[2] = {load_16(rows[0] + c + 8 * t, inside), load_16(rows[1] + c + 8 * t, inside)};
            const uint4 a = *reinterpret_cast<const uint4*>(top + c),
                        b = *reinterpret_cast<const uint4*>(top + 8 * pitch + c);
            const uint32_t low[4] = {a.x, b.x, a.y, b.y}, high[4] = {a.z, b.z, a.w, b.w};
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                multiply_add(s[i], low, x[i].x, x[i].y);
                multiply_add(s[i], high, x[i].z, x[i].w);
            }
        }
    }

    /// The scores of `entries` entries from `tile` on, 16 of them per warp; missing ones become -infinity.
    __device__ void score(int tile, int entries) const {
        float s[2][4] = {};
        const bf16 *k[2], *k_shared[2];
        const int first = warp * kEntriesOfWarp;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int64_t row =
                tile + min(first + 8 * i + g, entries - 1);  // a missing one: read and dropped
            k[i] = p.k.at(position.sequence, row, position.kv);
            k_shared[i] = p.k_shared.at(position.sequence, row, 0);
        }
        add_products(s, k, 0, p.content);
        if (p.rotary > 0) add_products(s, k_shared, padded_part(p.content), p.rotary);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int entry = first + 8 * i + 2 * t;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float* to = scores + (g + 8 * half) * kScorePitch + entry;
                to[0] = entry < entries ? s[i][2 * half] * p.scale : -INFINITY;
                to[1] = entry + 1 < entries ? s[i][2 * half + 1] * p.scale : -INFINITY;
            }
        }
    }

    /// The first of this lane's 8 columns in block `block` of its warp.
    __device__ int column(int block) const {
        return first_column + (block * kDecodeWarps + warp) * kValueBlock + 8 * g;
    }

    /// out = rescale out + exponentials v. out[b][j] is the product with columns 8 n + j of block b, n the mma's column.
    __device__ void accumulate(float (&out)[kBlocksOfWarp][8][4], int tile, int entries) const {
        const float top = softmax.rescale[g], bottom = softmax.rescale[g + 8];
#pragma unroll
        for (int b = 0; b < kBlocksOfWarp; ++b) {
#pragma unroll
            for (int j = 0; j < 8; ++j)
                out[b][j][0] *= top, out[b][j][1] *= top, out[b][j][2] *= bottom, out[b][j][3] *= bottom;
        }
#pragma unroll 2
        for (int first = 0; first < kDecodeTile; first += 16) {
            const int entry = first + 4 * t;  // this lane multiplies entries entry to entry + 3
            const float4 x = *reinterpret_cast<const float4*>(scores + g * kScorePitch + entry),
                         y = *reinterpret_cast<const float4*>(scores + (g + 8) * kScorePitch + entry);
            const uint32_t weights[4] = {pack_bf16(x.x, x.y), pack_bf16(y.x, y.y), pack_bf16(x.z, x.w),
                                         pack_bf16(y.z, y.w)};
#pragma unroll
            for (int b = 0; b < kBlocksOfWarp; ++b) {
                const bool inside = column(b) < p.value;
                uint4 v[4];
#pragma unroll
                for (int r = 0; r < 4; ++r)
                    v[r] = load_16(p.v.at(position.sequence, tile + entry + r, position.kv) + column(b),
                                   inside && entry + r < entries);
                add_outer(out[b], weights, v);
            }
        }
    }

    /// out[j] += weights v for the columns j of 8, where v[r] has the 8 columns of row r of the lane's four.
    __device__ static void add_outer(float (&out)[8][4], const uint32_t (&weights)[4], const uint4 (&v)[4]) {
        const uint32_t words[4][4] = {{v[0].x, v[0].y, v[0].z, v[0].w},
                                      {v[1].x, v[1].y, v[1].z, v[1].w},
                                      {v[2].x, v[2].y, v[2].z, v[2].w},
                                      {v[3].x, v[3].y, v[3].z, v[3].w}};
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            const unsigned halves = j % 2 == 0 ? 0x5410 : 0x7632;  // the lower or upper ones of two words
            multiply_add(out[j], weights, __byte_perm(words[0][j / 2], words[1][j / 2], halves),
                         __byte_perm(words[2][j / 2], words[3][j / 2], halves));
        }
    }

    /// A lane has 16 adjacent columns of heads g and g + 8 in every block: 16 t to 16 t + 15.
    __device__ void write(const float (&out)[kBlocksOfWarp][8][4]) const {
#pragma unroll
        for (int b = 0; b < kBlocksOfWarp; ++b) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int head = g + i / 2 * 8, to = column(b) - 8 * g + 16 * t + i % 2 * 8;
                if (head >= position.heads || to >= p.value) continue;
                float* row = p.partial + position.row(p, head) * p.value + to;
                *reinterpret_cast<float4*>(row) = {out[b][0][i], out[b][1][i], out[b][2][i], out[b][3][i]};
                *reinterpret_cast<float4*>(row + 4) = {out[b][4][i], out[b][5][i], out[b][6][i],
                                                       out[b][7][i]};
            }
        }
        if (blockIdx.y == 0) softmax.write(p, position);
    }
};

/// S_j = scale (q k_j + q_shared k_shared_j); partial = sum_j 2^(S_j - m) v_j with m = max_j S_j, and their sum. One CTA
/// per (split, key head and kHeads of its query heads, kColumnsOfCta columns of v, sequence); a split beyond the
/// sequence's length has nothing to do. Exponentials are rounded to bf16 where they multiply v, not in their sum.
__global__ void __launch_bounds__(kDecodeThreads, 4) decode_mma_kernel(const DecodeParams<bf16> p) {
    const MmaSplit split(p);
    if (split.position.begin >= split.position.end) return;
    split.load_queries();
    __syncthreads();
    float out[kBlocksOfWarp][8][4] = {};
    for (int tile = split.position.begin; tile < split.position.end; tile += kDecodeTile) {
        const int entries = min(kDecodeTile, split.position.end - tile);
        split.score(tile, entries);
        __syncthreads();
        split.softmax.exponentiate(split.scores, kScorePitch);
        __syncthreads();
        split.accumulate(out, tile, entries);
        __syncthreads();
    }
    split.write(out);
}

}  // namespace

bool decode_mma_takes(const DecodeParams<bf16>& p) {
    return p.group >= 4 && p.value >= 128;
}

void launch_decode_mma(CudaContext& ctx, const DecodeParams<bf16>& p, int64_t batch) {
    const int64_t groups = ceil_div(p.group, kHeads) * (p.heads / p.group);
    const dim3 grid(static_cast<unsigned>(p.splits * groups),
                    static_cast<unsigned>(ceil_div(p.value, kColumnsOfCta)), static_cast<unsigned>(batch));
    launch(ctx, grid, kDecodeThreads, shared_bytes(p.content, p.rotary), decode_mma_kernel, p);
}

}  // namespace pastur
