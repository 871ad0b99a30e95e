// Causal attention forward on CUDA cores in fp32, for fp32 models and for bf16 heads whose widths or
// alignment the tensor-core paths do not take. Without tensor cores there is no TF32: errors are those of
// fp32 sums.
//
// Widths have no limit: GEMMs over a width go through shared memory 32 columns at a time, and a CTA owns 64
// columns of its output. Wider heads are shared by several CTAs, each of which recomputes the scores.
#include "kernels/cuda/attention/max_logit.cuh"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/attention/simt.cuh"

namespace pastur::attention::simt {
namespace {

/// The online softmax of a thread's four rows, in base 2; it also rescales the output so far.
struct OnlineSoftmax {
    float maximum[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    float sum[4] = {0, 0, 0, 0};

    __device__ void step(Accumulators& s, Accumulators& acc) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float largest =
                fmaxf(maximum[i], row_max(fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3]))));
            // A stride, or documents, may hide all keys so far.
            const float base = largest == -INFINITY ? 0 : largest;
            const float rescale = exp2f(maximum[i] - base);
            maximum[i] = largest;
            sum[i] *= rescale;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                acc[i][j] *= rescale;
                s[i][j] = exp2f(s[i][j] - base);
                sum[i] += s[i][j];
            }
        }
    }
};

/// out and lse by the online softmax of Dao et al. (2205.14135). One CTA per (sequence, head, 64 queries, 64
/// columns of out).
template <typename T>
__global__ void __launch_bounds__(kThreads, 2) attention_simt_forward_kernel(const ForwardParams<T> p) {
    __shared__ Operands shared;
    const int tokens = p.sizes.tokens;
    const CtaPosition at(true, chunks(p.sizes.value));
    const int kv_head = at.head / p.sizes.group(), first = at.tile * kTile;
    const int first_column = at.chunk * kTile;
    const TokenTile<T> q{token_rows(p.q, at.batch, at.head, p.sizes.query_key()), first, tokens};
    TokenTile<T> k{token_rows(p.k, p.sizes.content, p.k_shared, p.sizes.rotary, at.batch, kv_head), 0,
                   tokens};
    TokenTile<T> v{token_rows(p.v, at.batch, kv_head, p.sizes.value), 0, tokens};

    int first_key[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) first_key[i] = first_key_of(p.documents, tokens, at.batch, first + row(i));
    const int begin = first_key_of(p.documents, tokens, at.batch, first) / kTile * kTile;

    OnlineSoftmax softmax;
    Accumulators s, out = {};
    for (int key = begin; key <= first; key += kTile) {
        k.first = v.first = key;
        multiply_tiles(s, q, k, shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const bool visible =
                    key + column(j) >= first_key[i] && sees(first + row(i), key + column(j), p.sizes.stride);
                s[i][j] = visible ? s[i][j] * (p.scale * kLog2E) : -INFINITY;
            }
        }
        softmax.step(s, out);
        accumulate_tile(out, s, v, first_column, shared);
    }
    float factor[4], largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float sum = row_sum(softmax.sum[i]);
        factor[i] = 1 / sum;
        if (at.chunk == 0 && column(0) == 0 && first + row(i) < tokens) {
            p.lse[at.first_row(p.sizes) + first + row(i)] = (softmax.maximum[i] + log2f(sum)) / kLog2E;
        }
        if (first + row(i) < tokens) largest = fmaxf(largest, softmax.maximum[i] / kLog2E);
    }
    if (at.chunk == 0) raise_max_logit(p.max_logit, at.head, largest);
    store_tile(token_rows(p.out, at.batch, at.head, p.sizes.value), out, factor, first, tokens, first_column);
}

}  // namespace

bool takes(CudaContext&, const Call&) {
    return true;
}

template <typename T>
void forward(CudaContext& ctx, const ForwardParams<T>& params) {
    const dim3 grid = tile_grid(params.sizes, params.sizes.heads, kTile, chunks(params.sizes.value));
    launch(ctx, grid, kThreads, 0, attention_simt_forward_kernel<T>, params);
}

template void forward(CudaContext&, const ForwardParams<float>&);
template void forward(CudaContext&, const ForwardParams<bf16>&);

}  // namespace pastur::attention::simt
