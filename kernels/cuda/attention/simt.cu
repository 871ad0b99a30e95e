// Causal attention on CUDA cores in fp32: the path of fp32 models, and of bf16 heads whose widths or
// alignment the tensor-core kernels do not take. No tensor core, hence no TF32: errors are those of fp32
// sums.
//
// Widths have no limit: products over a width go through shared memory 32 columns at a time, and a block owns
// 64 columns of its output. Heads wider than that are shared by several blocks, each of which computes the
// scores again. The formulas are those of mma_streaming_backward.cu.
#include "kernels/cuda/attention/mma_tiles.cuh"
#include "kernels/cuda/attention/paths.h"

namespace pastur::attention::simt {
namespace {

constexpr int kTile = 64;   ///< rows and columns of a tile of scores, and output columns of a block
constexpr int kDepth = 32;  ///< columns (or rows) of the operands in shared memory at a time
constexpr int kThreads = 256;
constexpr int kPitch = kTile + 4;  ///< keeps the rows of four floats aligned to 16 bytes

/// 34 KB. a, b: operands with the summed index first; p: the probabilities (or their gradient), column first.
struct Operands {
    float a[kDepth][kPitch], b[kDepth][kPitch], p[kTile][kPitch];
};

/// A thread owns 4 x 4 of a 64 x 64 tile: rows row(i), columns column(j). The 16 threads of a row are half a
/// warp.
using Accumulators = float[4][4];
__device__ int row(int i) {
    return static_cast<int>(threadIdx.x) / 16 * 4 + i;
}
__device__ int column(int j) {
    return static_cast<int>(threadIdx.x) % 16 * 4 + j;
}

/// 64 tokens of one (sequence, head); reads zero outside.
template <typename T>
struct TokenTile {
    TokenRows<const T> rows;
    int first, tokens;

    __device__ float at(int row, int column) const {
        if (first + row >= tokens || column >= rows.width) return 0;
        return to_float(*rows.column(column).at(first + row));
    }
};

/// Blocks that share an output of `width` columns.
__host__ __device__ int chunks(int width) {
    return (width + kTile - 1) / kTile;
}

/// acc += a^T b over the kDepth rows of both.
__device__ void add_product(Accumulators& acc, const float (&a)[kDepth][kPitch],
                            const float (&b)[kDepth][kPitch]) {
#pragma unroll 2
    for (int k = 0; k < kDepth; ++k) {
        const float4 x = *reinterpret_cast<const float4*>(&a[k][row(0)]);
        const float4 y = *reinterpret_cast<const float4*>(&b[k][column(0)]);
        const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) acc[i][j] += xs[i] * ys[j];
        }
    }
}

/// acc = a b^T over the columns of both. Begins with a barrier: what the block read before may be
/// overwritten.
template <typename T>
__device__ void multiply_tiles(Accumulators& acc, const TokenTile<T>& a, const TokenTile<T>& b,
                               Operands& shared) {
#pragma unroll
    for (int i = 0; i < 16; ++i) acc[i / 4][i % 4] = 0;
    for (int depth = 0; depth < a.rows.width; depth += kDepth) {
        __syncthreads();
#pragma unroll 2
        for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
            shared.a[i % kDepth][i / kDepth] = a.at(i / kDepth, depth + i % kDepth);
            shared.b[i % kDepth][i / kDepth] = b.at(i / kDepth, depth + i % kDepth);
        }
        __syncthreads();
        add_product(acc, shared.a, shared.b);
    }
}

/// acc += p b over the columns of p and rows of b, for b's columns [first, first + 64). p is a tile of
/// scores, thread by thread like every accumulator. Call after multiply_tiles: its barriers guard shared.p.
template <typename T>
__device__ void accumulate_tile(Accumulators& acc, const Accumulators& p, const TokenTile<T> b, int first,
                                Operands& shared) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        *reinterpret_cast<float4*>(&shared.p[column(j)][row(0)]) = float4{p[0][j], p[1][j], p[2][j], p[3][j]};
    }
#pragma unroll 1
    for (int half = 0; half < kTile; half += kDepth) {
        __syncthreads();
#pragma unroll 2
        for (int i = static_cast<int>(threadIdx.x); i < kDepth * kTile; i += kThreads) {
            shared.b[i / kTile][i % kTile] = b.at(half + i / kTile, first + i % kTile);
        }
        __syncthreads();
        add_product(acc, *reinterpret_cast<const float(*)[kDepth][kPitch]>(&shared.p[half]), shared.b);
    }
}

/// Writes acc, row i times factor[i], to columns [first, first + 64) of tokens token ....
template <typename T>
__device__ void store_tile(const TokenRows<T>& rows, const Accumulators& acc, const float (&factor)[4],
                           int token, int tokens, int first) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (token + row(i) >= tokens || first + column(j) >= rows.width) continue;
            *rows.column(first + column(j)).at(token + row(i)) = from_float<T>(acc[i][j] * factor[i]);
        }
    }
}

/// Sum, or maximum, over the 16 threads of a row; in all of them.
__device__ float row_sum(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
    return x;
}
__device__ float row_max(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
    return x;
}

/// The online softmax of a thread's four rows, in base 2; see mma_streaming_forward.cu. Rescales acc too.
struct OnlineSoftmax {
    float maximum[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    float sum[4] = {0, 0, 0, 0};

    __device__ void step(Accumulators& s, Accumulators& acc) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float largest =
                fmaxf(maximum[i], row_max(fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]))));
            const float rescale = exp2f(maximum[i] - largest);
            maximum[i] = largest;
            sum[i] *= rescale;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                acc[i][j] *= rescale;
                s[i][j] = exp2f(s[i][j] - largest);
                sum[i] += s[i][j];
            }
        }
    }
};

/// out and lse. One block per (sequence, head, 64 queries, 64 columns of out).
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) attention_simt_forward_kernel(const ForwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const BlockPosition at(true, chunks(p.sizes.value));
    const int kv_head = at.head / p.sizes.group(), first = at.tile * kTile;
    const int first_column = at.chunk * kTile;
    const TokenTile<T> q{token_rows(p.q, at.batch, at.head, p.sizes.query_key()), first, tokens};
    TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head), 0,
                   tokens};
    TokenTile<T> v{token_rows(p.v, at.batch, kv_head, p.sizes.value), 0, tokens};

    OnlineSoftmax softmax;
    Accumulators s, out = {};
    for (int key = 0; key <= first; key += kTile) {
        k.first = v.first = key;
        multiply_tiles(s, q, k, shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                s[i][j] = key + column(j) > first + row(i) ? -INFINITY : s[i][j] * (p.scale * kLog2E);
            }
        }
        softmax.step(s, out);
        accumulate_tile(out, s, v, first_column, shared);
    }
    float factor[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float sum = row_sum(softmax.sum[i]);
        factor[i] = 1 / sum;
        if (at.chunk == 0 && column(0) == 0 && first + row(i) < tokens) {
            p.lse[at.first_row(p.sizes) + first + row(i)] = (softmax.maximum[i] + log2f(sum)) / kLog2E;
        }
    }
    store_tile(token_rows(p.out, at.batch, at.head, p.sizes.value), out, factor, first, tokens, first_column);
}

/// row_stats = (log2(e) lse, delta), delta = rowsum(dout out). One warp per (sequence, head, token).
template <typename T>
__global__ void __launch_bounds__(kThreads) attention_simt_row_stats_kernel(const BackwardParams<T> p) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int64_t index = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
    const int token = static_cast<int>(index % p.sizes.tokens);
    const int head_index = static_cast<int>(index / p.sizes.tokens);
    const int batch = head_index / p.sizes.heads, head = head_index % p.sizes.heads;
    if (batch >= p.sizes.batch) return;
    const auto out = token_rows(p.out, batch, head, p.sizes.value);
    const auto dout = token_rows(p.dout, batch, head, p.sizes.value);
    float delta = 0;
    for (int i = lane; i < p.sizes.value; i += 32) {
        delta += to_float(*out.column(i).at(token)) * to_float(*dout.column(i).at(token));
    }
    delta = warp_sum(delta);
    if (lane == 0) p.row_stats[index] = {p.lse[index] * kLog2E, delta};
}

/// dq =. One block per (sequence, head, 64 queries, 64 columns of dq).
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    attention_simt_backward_query_kernel(const BackwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const BlockPosition at(true, chunks(p.sizes.query_key()));
    const int kv_head = at.head / p.sizes.group(), first = at.tile * kTile;
    const int first_column = at.chunk * kTile;
    const TokenTile<T> q{token_rows(p.q, at.batch, at.head, p.sizes.query_key()), first, tokens};
    const TokenTile<T> dout{token_rows(p.dout, at.batch, at.head, p.sizes.value), first, tokens};
    TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head), 0,
                   tokens};
    TokenTile<T> v{token_rows(p.v, at.batch, kv_head, p.sizes.value), 0, tokens};
    float2 stats[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const bool inside = first + row(i) < tokens;
        stats[i] = inside ? p.row_stats[at.first_row(p.sizes) + first + row(i)] : float2{0, 0};
    }

    Accumulators s, dp, dq = {};
    for (int key = 0; key <= first; key += kTile) {
        k.first = v.first = key;
        multiply_tiles(s, q, k, shared);
        multiply_tiles(dp, dout, v, shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool visible = key + column(j) <= first + row(i);
                const float prob = visible ? exp2f(s[i][j] * (p.scale * kLog2E) - stats[i].x) : 0;
                s[i][j] = prob * (dp[i][j] - stats[i].y);
            }
        }
        accumulate_tile(dq, s, k, first_column, shared);
    }
    const float factor[4] = {p.scale, p.scale, p.scale, p.scale};
    store_tile(token_rows(p.dq, at.batch, at.head, p.sizes.query_key()), dq, factor, first, tokens,
               first_column);
}

/// dk = or dv =, over the heads of the group in order and the queries upwards from the diagonal. One block
/// per (sequence, key head, 64 keys, 64 columns): of dk for the first ceil(d_qk / 64) chunks, of dv for the
/// others. Tiles of scores are transposed: rows are keys.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) attention_simt_backward_key_kernel(const BackwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const int key_chunks = chunks(p.sizes.query_key());
    const BlockPosition at(false, key_chunks + chunks(p.sizes.value));
    const int first = at.tile * kTile;
    const bool for_keys = at.chunk < key_chunks;
    const int first_column = (at.chunk - (for_keys ? 0 : key_chunks)) * kTile;
    const TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, at.head),
                         first, tokens};
    const TokenTile<T> v{token_rows(p.v, at.batch, at.head, p.sizes.value), first, tokens};

    Accumulators s, dp, sum = {};
    for (int head = at.head * p.sizes.group(); head < (at.head + 1) * p.sizes.group(); ++head) {
        TokenTile<T> q{token_rows(p.q, at.batch, head, p.sizes.query_key()), 0, tokens};
        TokenTile<T> dout{token_rows(p.dout, at.batch, head, p.sizes.value), 0, tokens};
        const float2* stats = p.row_stats + (static_cast<int64_t>(at.batch) * p.sizes.heads + head) * tokens;
        for (int query = first; query < tokens; query += kTile) {
            q.first = dout.first = query;
            multiply_tiles(s, k, q, shared);
            if (for_keys) multiply_tiles(dp, v, dout, shared);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int column_query = query + column(j);
                const float2 stat = column_query < tokens ? stats[column_query] : float2{0, 0};
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const bool visible = first + row(i) <= column_query && column_query < tokens;
                    const float prob = visible ? exp2f(s[i][j] * (p.scale * kLog2E) - stat.x) : 0;
                    s[i][j] = for_keys ? prob * (dp[i][j] - stat.y) : prob;
                }
            }
            accumulate_tile(sum, s, for_keys ? q : dout, first_column, shared);
        }
    }
    const float factor = for_keys ? p.scale : 1;
    const float factors[4] = {factor, factor, factor, factor};
    const auto to = for_keys
                        ? token_rows(p.dk, p.sizes.content, p.dk_shared, p.sizes.rotary, at.batch, at.head)
                        : token_rows(p.dv, at.batch, at.head, p.sizes.value);
    store_tile(to, sum, factors, first, tokens, first_column);
}

}  // namespace

bool takes(CudaContext&, const Call&) {
    return true;
}

BackwardScratch scratch(CudaContext&, const Sizes& sizes) {
    return {.row_stats = int64_t{sizes.batch} * sizes.heads * sizes.tokens, .key_parts = sizes.kv_heads};
}

template <typename T>
void forward(CudaContext& ctx, const ForwardParams<T>& params) {
    const dim3 grid = tile_grid(params.sizes, params.sizes.heads, kTile, chunks(params.sizes.value));
    launch(ctx, grid, kThreads, 0, attention_simt_forward_kernel<T>, params);
}

template <typename T>
void backward(CudaContext& ctx, const BackwardParams<T>& params) {
    const Sizes& sizes = params.sizes;
    const int64_t rows = static_cast<int64_t>(sizes.batch) * sizes.heads * sizes.tokens;
    launch(ctx, static_cast<unsigned>(ceil_div(rows, kThreads / kWarp)), kThreads, 0,
           attention_simt_row_stats_kernel<T>, params);
    const dim3 query_grid = tile_grid(sizes, sizes.heads, kTile, chunks(sizes.query_key()));
    launch(ctx, query_grid, kThreads, 0, attention_simt_backward_query_kernel<T>, params);
    const int key_chunks = chunks(sizes.query_key()) + chunks(sizes.value);
    const dim3 key_grid = tile_grid(sizes, sizes.kv_heads, kTile, key_chunks);
    launch(ctx, key_grid, kThreads, 0, attention_simt_backward_key_kernel<T>, params);
}

template void forward(CudaContext&, const ForwardParams<float>&);
template void forward(CudaContext&, const ForwardParams<bf16>&);
template void backward(CudaContext&, const BackwardParams<float>&);
template void backward(CudaContext&, const BackwardParams<bf16>&);

}  // namespace pastur::attention::simt
