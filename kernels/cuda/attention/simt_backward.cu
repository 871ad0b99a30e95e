// Causal attention backward on CUDA cores in fp32; simt_forward.cu says for which inputs. The formulas are
// those of mma/streaming_backward.cu.
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/simt.cuh"

namespace pastur::attention::simt {
namespace {

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

/// dq =. One CTA per (sequence, head, 64 queries, 64 columns of dq).
template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    attention_simt_backward_query_kernel(const BackwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const CtaPosition at(true, chunks(p.sizes.query_key()));
    const int kv_head = at.head / p.sizes.group(), first = at.tile * kTile;
    const int first_column = at.chunk * kTile;
    const TokenTile<T> q{token_rows(p.q, at.batch, at.head, p.sizes.query_key()), first, tokens};
    const TokenTile<T> dout{token_rows(p.dout, at.batch, at.head, p.sizes.value), first, tokens};
    TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head), 0,
                   tokens};
    TokenTile<T> v{token_rows(p.v, at.batch, kv_head, p.sizes.value), 0, tokens};
    float2 stats[4];
    int first_key[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        first_key[i] = first_key_of(p.documents, tokens, at.batch, first + row(i));
        const bool inside = first + row(i) < tokens;
        stats[i] = inside ? p.row_stats[at.first_row(p.sizes) + first + row(i)] : float2{0, 0};
    }

    const int begin = first_key_of(p.documents, tokens, at.batch, first) / kTile * kTile;
    Accumulators s, dp, dq = {};
    for (int key = begin; key <= first; key += kTile) {
        k.first = v.first = key;
        multiply_tiles(s, q, k, shared);
        multiply_tiles(dp, dout, v, shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool visible =
                    key + column(j) >= first_key[i] && sees(first + row(i), key + column(j), p.sizes.stride);
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

/// dk = or dv =, summed over the heads of the group in order and over the queries upwards from the diagonal.
/// One CTA per (sequence, key head, 64 keys, 64 columns): columns of dk for the first ceil(d_qk / 64) chunks,
/// of dv for the others. Tiles of scores are transposed: rows are keys.
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) attention_simt_backward_key_kernel(const BackwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const int key_chunks = chunks(p.sizes.query_key());
    const CtaPosition at(false, key_chunks + chunks(p.sizes.value));
    const int first = at.tile * kTile;
    const bool for_keys = at.chunk < key_chunks;
    const int first_column = (at.chunk - (for_keys ? 0 : key_chunks)) * kTile;
    const TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, at.head),
                         first, tokens};
    const TokenTile<T> v{token_rows(p.v, at.batch, at.head, p.sizes.value), first, tokens};

    int query_end[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) query_end[i] = query_end_of(p.documents, tokens, at.batch, first + row(i));
    const int end = query_end_of(p.documents, tokens, at.batch, first + kTile - 1);

    Accumulators s, dp, sum = {};
    for (int head = at.head * p.sizes.group(); head < (at.head + 1) * p.sizes.group(); ++head) {
        TokenTile<T> q{token_rows(p.q, at.batch, head, p.sizes.query_key()), 0, tokens};
        TokenTile<T> dout{token_rows(p.dout, at.batch, head, p.sizes.value), 0, tokens};
        const float2* stats = p.row_stats + (static_cast<int64_t>(at.batch) * p.sizes.heads + head) * tokens;
        for (int query = first; query < end; query += kTile) {
            q.first = dout.first = query;
            multiply_tiles(s, k, q, shared);
            if (for_keys) multiply_tiles(dp, v, dout, shared);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const int column_query = query + column(j);
                const float2 stat = column_query < tokens ? stats[column_query] : float2{0, 0};
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const bool visible =
                        column_query < query_end[i] && sees(column_query, first + row(i), p.sizes.stride);
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

BackwardScratch scratch(CudaContext&, const Sizes& sizes) {
    return {.row_stats = int64_t{sizes.batch} * sizes.heads * sizes.tokens, .key_parts = sizes.kv_heads};
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

template void backward(CudaContext&, const BackwardParams<float>&);
template void backward(CudaContext&, const BackwardParams<bf16>&);

}  // namespace pastur::attention::simt
