// Statistics of the scores of causal attention on CUDA cores: a diagnostic that runs on few sequences, so one plain
// kernel takes all shapes.
#include "kernels/attention/attention_logits.h"

#include <limits>

#include "kernels/cuda/attention/masks.cuh"
#include "kernels/cuda/attention/simt.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur {
namespace attention::simt {
namespace {

template <typename T>
struct LogitParams {
    Sizes sizes;  ///< value = 0
    float scale;
    HeadView<const T> q_content, q_rope, k, k_shared;
    Documents documents;
    LogitSums* sums;  ///< [B, H, tiles]
};

/// The softmax of a part of one query's scores: with m their maximum, z = sum e^(S - m) and a = sum e^(S - m) (S - m).
struct PartialSoftmax {
    float m = -INFINITY;
    double z = 0, a = 0;
    int seen = 0;

    /// Moves the maximum up to `maximum`.
    __device__ void rescale(float maximum) {
        if (!(maximum > m)) return;
        const double shift = m == -INFINITY ? 0.0 : static_cast<double>(m) - maximum;
        const double factor = m == -INFINITY ? 1.0 : exp(shift);
        a = factor * (a + shift * z);
        z = factor * z;
        m = maximum;
    }
    __device__ void add(float s) {
        rescale(s);
        const float below = s - m;
        const double e = expf(below);
        z += e;
        a += e * below;
        ++seen;
    }
    /// Combines the parts of the 16 threads of a row; all of them get the same bits.
    __device__ void merge() {
        rescale(warp_max<16>(m));
        z = warp_sum<16>(z);
        a = warp_sum<16>(a);
        seen = warp_sum<16>(seen);
    }
};

/// acc = scale q k^T for the queries of one tile and the keys of another.
template <typename T>
__device__ void part_scores(Accumulators& acc, const HeadView<const T>& q, int q_head,
                            const HeadView<const T>& k, int k_head, int width, int batch, int query, int key,
                            const LogitParams<T>& p, Operands& shared) {
    const int tokens = p.sizes.tokens;
    multiply_tiles(acc, TokenTile<T>{token_rows(q, batch, q_head, width), query, tokens},
                   TokenTile<T>{token_rows(k, batch, k_head, width), key, tokens}, shared);
#pragma unroll
    for (int i = 0; i < 16; ++i) acc[i / 4][i % 4] *= p.scale;
}

/// sums[b, h, tile]: LogitSums over the 64 queries of a tile. A CTA owns a tile and walks over the tiles of keys from
/// the first one that its queries see up to its own; a thread owns the scores of 4 queries and 4 keys of each (simt.cuh) and adds them up in fp64. Products
/// are fp32 sums as on the attention path simt.
template <typename T>
__global__ void __launch_bounds__(kThreads) logit_sums_kernel(const LogitParams<T> p) {
    __shared__ Operands shared;
    __shared__ double reduced[kThreads / kWarp];
    const CtaPosition cta(/*descending=*/true);
    const int query = cta.tile * kTile, tokens = p.sizes.tokens, kv_head = cta.head / p.sizes.group();
    LogitSums mine{};
    mine.largest = -INFINITY;
    PartialSoftmax rows[4];
    const int begin = first_key_of(p.documents, tokens, cta.batch, query) / kTile * kTile;
    for (int key = begin; key <= query; key += kTile) {
        Accumulators content, rope;
        part_scores(content, p.q_content, cta.head, p.k, kv_head, p.sizes.content, cta.batch, query, key, p,
                    shared);
        part_scores(rope, p.q_rope, cta.head, p.k_shared, 0, p.sizes.rotary, cta.batch, query, key, p,
                    shared);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = query + row(i);
            if (at >= tokens) continue;
            const int first_key = first_key_of(p.documents, tokens, cta.batch, at);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (key + column(j) < first_key || !sees(at, key + column(j), p.sizes.stride)) continue;
                const double c = content[i][j], r = rope[i][j];
                mine.content += c;
                mine.rope += r;
                mine.content_squares += c * c;
                mine.rope_squares += r * r;
                mine.products += c * r;
                rows[i].add(content[i][j] + rope[i][j]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        rows[i].merge();
        if (query + row(i) >= tokens || threadIdx.x % 16 != 0) continue;
        const double entropy = log(rows[i].z) - rows[i].a / rows[i].z;
        mine.pairs += rows[i].seen;
        mine.largest = fmax(mine.largest, static_cast<double>(rows[i].m));
        mine.entropy += entropy;
        if (rows[i].seen < 2) continue;
        mine.choices += 1;
        mine.entropy_ratio += entropy / log(static_cast<double>(rows[i].seen));
    }
    LogitSums all{};
    for (double LogitSums::*field :
         {&LogitSums::pairs, &LogitSums::content, &LogitSums::rope, &LogitSums::content_squares,
          &LogitSums::rope_squares, &LogitSums::products, &LogitSums::entropy, &LogitSums::choices,
          &LogitSums::entropy_ratio}) {
        all.*field = block_sum<kThreads>(mine.*field, reduced);
        __syncthreads();
    }
    all.largest = block_max<kThreads>(mine.largest, reduced);
    if (isnan(all.content_squares + all.rope_squares)) all.largest = NAN;
    if (threadIdx.x == 0) p.sums[cta.first_row(p.sizes) / tokens * gridDim.x + cta.tile] = all;
}

/// [B, T, heads, width] from column `first` on, or [B, T, width] as one head that all share.
template <typename T>
HeadView<const T> head_view(const ConstTensor& x, int64_t first = 0) {
    if (x.empty()) return {};
    const int64_t token = x.stride(1), head = x.rank() == 4 ? x.stride(2) : 0;
    constexpr int64_t kLargest = std::numeric_limits<int>::max();
    PASTUR_CHECK(token >= 0 && token <= kLargest && head >= 0 && head <= kLargest,
                 "attention_logits: strides of {}", describe(x));
    return {device_data<T>(x) + first, x.stride(0), static_cast<int>(token), static_cast<int>(head)};
}

}  // namespace
}  // namespace attention::simt

void attention_logits(CudaContext& ctx, Tensor sums, const AttentionInputs& in) {
    using namespace attention;  // NOLINT
    const auto size = [](const ConstTensor& x, int i) { return static_cast<int>(x.size(i)); };
    const int content = size(in.k, 3), rotary = size(in.q, 3) - content;
    const Sizes sizes{size(in.q, 0),
                      size(in.q, 1),
                      size(in.q, 2),
                      size(in.k, 2),
                      content,
                      rotary,
                      0,
                      static_cast<int>(in.stride)};
    static_assert(simt::kTile == kLogitTile);
    visit_float_type(in.q.dtype(), [&]<typename T>() {
        const simt::LogitParams<T> params{sizes,
                                          in.scale,
                                          simt::head_view<T>(in.q),
                                          simt::head_view<T>(in.q, content),
                                          simt::head_view<T>(in.k),
                                          simt::head_view<T>(in.k_shared),
                                          documents_of(in.documents),
                                          reinterpret_cast<LogitSums*>(sums.data<double>())};
        launch(ctx, tile_grid(sizes, sizes.heads, simt::kTile), simt::kThreads, 0, simt::logit_sums_kernel<T>,
               params);
    });
}

}  // namespace pastur
