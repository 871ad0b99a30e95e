// Tiles of queries against all keys before them, from the first key that one of them sees. Only one tile of scores exists
// at a time; GEMMs are small sgemm calls.
#include "kernels/attention/causal_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention_rotation.h"
#include "kernels/cpu/attention/visible_keys.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

constexpr int64_t kTile = 64;  ///< queries of a tile

/// One head's [T, width] matrix inside a larger tensor.
template <typename T>
struct Matrix {
    T* data;
    int64_t stride;
    T* row(int64_t t) const { return data + t * stride; }
};

template <typename View>
auto head_of(const View& x, int64_t b, int64_t h) {
    auto* data = x.template data<float>();
    return Matrix<std::remove_pointer_t<decltype(data)>>{data + b * x.stride(0) + h * x.stride(2),
                                                         x.stride(1)};
}

template <typename View>
auto shared_of(const View& x, int64_t b) {
    using Element = std::remove_pointer_t<decltype(x.template data<float>())>;
    if (x.empty()) return Matrix<Element>{nullptr, 0};
    return Matrix<Element>{x.template data<float>() + b * x.stride(0), x.stride(1)};
}

/// What one (sequence, head) reads.
struct Head {
    Matrix<const float> q, k, k_shared, v;
    int64_t content, rotary, value;
    float scale;
    int64_t stride;
    FirstKeys first_keys;
    VisibleKeys seen_by(int64_t query) const { return {query, stride, first_keys.of(query)}; }
};

/// Queries [begin, begin + rows), and keys [first, first + keys) that they see all or some of.
struct QueryTile {
    int64_t begin, rows, first, keys;
    QueryTile(const Head& head, int64_t begin, int64_t time)
        : begin(begin),
          rows(std::min(kTile, time - begin)),
          first(head.first_keys.of(begin)),
          keys(begin + rows - first) {}
};

Head head_inputs(const AttentionInputs& in, int64_t b, int64_t h) {
    const int64_t group = in.q.size(2) / in.k.size(2);
    return {head_of(in.q, b, h),
            head_of(in.k, b, h / group),
            shared_of(in.k_shared, b),
            head_of(in.v, b, h / group),
            in.k.size(3),
            in.q.size(3) - in.k.size(3),
            in.v.size(3),
            in.scale,
            in.stride,
            FirstKeys(in.documents, b)};
}

/// scores [rows, keys] = scale q k^T.
void tile_scores(const Head& head, const QueryTile& tile, float* scores) {
    const auto [begin, rows, first, keys] = tile;
    gemm({rows, keys, head.content, head.q.row(begin), head.q.stride, false, head.k.row(first), head.k.stride,
          true, 0.0f, scores, keys},
         head.scale);
    if (head.rotary > 0)
        gemm({rows, keys, head.rotary, head.q.row(begin) + head.content, head.q.stride, false,
              head.k_shared.row(first), head.k_shared.stride, true, 1.0f, scores, keys},
             head.scale);
}

/// In place: row r, the scores of query begin + r, becomes its probabilities; masked keys become 0. lse =. Returns
/// the largest score.
float tile_softmax(const Head& head, const QueryTile& tile, float* scores, float* lse) {
    float largest = -std::numeric_limits<float>::infinity();
    for (int64_t r = 0; r < tile.rows; ++r) {
        float* row = scores + r * tile.keys;
        const VisibleKeys visible = head.seen_by(tile.begin + r);
        const int64_t count = visible.count();
        visible.gather(row, tile.first);
        const Softmax softmax = softmax_of<true>(row, count, row);
        const float inverse = 1.0f / softmax.sum;
        for (int64_t s = 0; s < count; ++s) row[s] *= inverse;
        visible.scatter(row, tile.first, tile.first + tile.keys);
        lse[tile.begin + r] = softmax.largest + std::log(softmax.sum);
        largest = softmax.largest > largest ? softmax.largest : largest;
    }
    return largest;
}

/// to = max(to, value), for threads that work on the same head.
void raise(float& to, float value) {
    const std::atomic_ref<float> shared(to);
    float before = shared.load(std::memory_order_relaxed);
    while (value > before && !shared.compare_exchange_weak(before, value, std::memory_order_relaxed)) {
    }
}

/// In place: row r, the scores of query begin + r, becomes its probabilities, from the saved lse.
void tile_probabilities(const Head& head, const QueryTile& tile, const float* lse, float* scores) {
    for (int64_t r = 0; r < tile.rows; ++r) {
        float* row = scores + r * tile.keys;
        const float shift = lse[tile.begin + r];
        const VisibleKeys visible = head.seen_by(tile.begin + r);
        const int64_t count = visible.count();
        visible.gather(row, tile.first);
        for (int64_t s = 0; s < count; ++s) row[s] = fast_exp(row[s] - shift);
        visible.scatter(row, tile.first, tile.first + tile.keys);
    }
}

/// In place: dp becomes ds = scale p (dp - delta), delta = sum_j dout out (which is sum_s p dp).
void tile_dscores(const Head& head, const QueryTile& tile, Matrix<const float> dout, Matrix<const float> out,
                  const float* p, float* dp) {
    for (int64_t r = 0; r < tile.rows; ++r) {
        float delta = 0;
        const float *d = dout.row(tile.begin + r), *o = out.row(tile.begin + r);
#pragma omp simd reduction(+ : delta)
        for (int64_t j = 0; j < head.value; ++j) delta += d[j] * o[j];
        const float* p_row = p + r * tile.keys;
        float* row = dp + r * tile.keys;
        for (int64_t s = 0; s < tile.keys; ++s) row[s] = head.scale * p_row[s] * (row[s] - delta);
    }
}

/// Gradients of one (sequence, head); dk and dv are +=, dq and dk_rotary [T, rotary] =.
struct HeadGrads {
    Matrix<float> dq, dk, dv, dk_rotary;
};

void head_backward(const Head& head, const HeadGrads& grads, int64_t time, Matrix<const float> dout,
                   Matrix<const float> out, const float* lse, float* p, float* ds) {
    for (int64_t at = 0; at < time; at += kTile) {
        const QueryTile tile(head, at, time);
        const auto [begin, rows, first, keys] = tile;
        tile_scores(head, tile, p);
        tile_probabilities(head, tile, lse, p);
        gemm({rows, keys, head.value, dout.row(begin), dout.stride, false, head.v.row(first), head.v.stride,
              true, 0.0f, ds, keys});
        tile_dscores(head, tile, dout, out, p, ds);

        gemm({keys, head.value, rows, p, keys, true, dout.row(begin), dout.stride, false, 1.0f,
              grads.dv.row(first), grads.dv.stride});
        gemm({rows, head.content, keys, ds, keys, false, head.k.row(first), head.k.stride, false, 0.0f,
              grads.dq.row(begin), grads.dq.stride});
        gemm({keys, head.content, rows, ds, keys, true, head.q.row(begin), head.q.stride, false, 1.0f,
              grads.dk.row(first), grads.dk.stride});
        if (head.rotary == 0) continue;
        gemm({rows, head.rotary, keys, ds, keys, false, head.k_shared.row(first), head.k_shared.stride, false,
              0.0f, grads.dq.row(begin) + head.content, grads.dq.stride});
        gemm({keys, head.rotary, rows, ds, keys, true, head.q.row(begin) + head.content, head.q.stride, false,
              1.0f, grads.dk_rotary.row(first), grads.dk_rotary.stride});
    }
}

void clear_rows(Matrix<float> x, int64_t time, int64_t width) {
    for (int64_t t = 0; t < time; ++t) std::fill_n(x.row(t), width, 0.0f);
}

/// dk_shared = sum of partial [B, H, T, d_r] over heads, in ascending order.
void sum_heads(CpuContext& ctx, Tensor dk_shared, const float* partial, int64_t heads) {
    const int64_t time = dk_shared.size(1), width = dk_shared.size(2);
    parallel_for(ctx, dk_shared.size(0), heads * time * width, [&](int64_t b) {
        const Matrix<float> to = shared_of(dk_shared, b);
        clear_rows(to, time, width);
        for (int64_t h = 0; h < heads; ++h)
            for (int64_t t = 0; t < time; ++t)
                for (int64_t i = 0; i < width; ++i)
                    to.row(t)[i] += partial[((b * heads + h) * time + t) * width + i];
    });
}

constexpr const char* kPath = "cpu";

void check_path(const AttentionInputs& in) {
    PASTUR_CHECK(in.path.empty() || in.path == kPath, "attention: no path \"{}\" on a CPU", in.path);
}

}  // namespace

void causal_attention_forward(CpuContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary, Tensor max_logit) {
    check_path(in);
    rotate(ctx, rotary);
    const int64_t time = in.q.size(1), heads = in.q.size(2);
    parallel_for(ctx, in.q.size(0) * heads, time * time * in.q.size(3), [&](int64_t i) {
        const Head head = head_inputs(in, i / heads, i % heads);
        const Matrix<float> o = head_of(out, i / heads, i % heads);
        std::vector<float> p(static_cast<size_t>(kTile * time));
        float largest = -std::numeric_limits<float>::infinity();
        for (int64_t at = 0; at < time; at += kTile) {
            const QueryTile tile(head, at, time);
            const auto [begin, rows, first, keys] = tile;
            tile_scores(head, tile, p.data());
            largest = std::max(largest, tile_softmax(head, tile, p.data(), lse.data<float>() + i * time));
            gemm({rows, head.value, keys, p.data(), keys, false, head.v.row(first), head.v.stride, false,
                  0.0f, o.row(begin), o.stride});
        }
        if (!max_logit.empty()) raise(max_logit.data<float>()[i % heads * max_logit.stride(0)], largest);
    });
}

/// One thread owns a key head and walks the query heads of its group in order, so dk and dv have one writer.
void causal_attention_backward(CpuContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in) {
    check_path(in);
    const int64_t time = in.q.size(1), heads = in.q.size(2), kv_heads = in.k.size(2),
                  group = heads / kv_heads;
    const int64_t rotary = in.q.size(3) - in.k.size(3);
    Arena::Frame frame(ctx.scratch(), "causal_attention_backward");
    float* partial =
        rotary > 0 ? frame.take(DType::kF32, {in.q.size(0), heads, time, rotary}).data<float>() : nullptr;
    parallel_for(ctx, in.q.size(0) * kv_heads, group * time * time * in.q.size(3), [&](int64_t i) {
        const int64_t b = i / kv_heads, kv = i % kv_heads;
        const Matrix<float> dk = head_of(grads.dk, b, kv), dv = head_of(grads.dv, b, kv);
        clear_rows(dk, time, in.k.size(3));
        clear_rows(dv, time, in.v.size(3));
        std::vector<float> p(static_cast<size_t>(kTile * time)), ds(p.size());
        for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
            const Matrix<float> dk_rotary = {partial + (b * heads + h) * time * rotary, rotary};
            if (rotary > 0) clear_rows(dk_rotary, time, rotary);
            head_backward(head_inputs(in, b, h), {head_of(grads.dq, b, h), dk, dv, dk_rotary}, time,
                          head_of(dout, b, h), head_of(out, b, h), lse.data<float>() + (b * heads + h) * time,
                          p.data(), ds.data());
        }
    });
    if (rotary > 0) sum_heads(ctx, grads.dk_shared, partial, heads);
    rotate_back(ctx, grads);
}

int64_t causal_attention_backward_scratch_bytes(CpuContext&, const AttentionInputs& in) {
    const int64_t rotary = in.q.size(3) - in.k.size(3);
    return align_up(in.q.size(0) * in.q.size(2) * in.q.size(1) * rotary * size_of(DType::kF32));
}

AttentionPaths causal_attention_paths(CpuContext&, const AttentionInputs&) {
    return {{kPath}, {kPath}};
}

std::string causal_attention_fallback(CpuContext&, const AttentionInputs&) {
    return "";
}

}  // namespace pastur
