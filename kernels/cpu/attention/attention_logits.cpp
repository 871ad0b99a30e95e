// Tiles of queries against all keys before them, as in causal_attention.cpp: one tile of content scores and one of
// rotary scores exist at a time.
#include "kernels/attention/attention_logits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/attention/visible_keys.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// One operand of a head: rows of consecutive tokens.
struct HeadRows {
    const float* data = nullptr;
    int64_t stride = 0;
    const float* row(int64_t t) const { return data + t * stride; }
};

HeadRows rows_of(const ConstTensor& x, int64_t b, int64_t h) {
    return {x.data<float>() + b * x.stride(0) + h * x.stride(2), x.stride(1)};
}

/// scores [rows, keys] = scale q k^T over `width` columns.
void part_scores(const float* k, int64_t k_stride, int64_t width, float scale, const float* q,
                 int64_t q_stride, int64_t rows, int64_t keys, float* scores) {
    gemm({rows, keys, width, q, q_stride, false, k, k_stride, true, 0.0f, scores, keys}, scale);
}

/// The scores that one query sees.
struct SeenScores {
    std::vector<float> content, rope;  ///< the first `count` numbers
    int64_t count = 0;

    explicit SeenScores(int64_t time) : content(static_cast<size_t>(time)), rope(static_cast<size_t>(time)) {}

    /// Rows begin with the score of key `origin`.
    void gather(const VisibleKeys& visible, int64_t origin, const float* content_row, const float* rope_row) {
        count = visible.count();
        for (int64_t i = 0; i < count; ++i) {
            content[static_cast<size_t>(i)] = content_row[visible[i] - origin];
            rope[static_cast<size_t>(i)] = rope_row[visible[i] - origin];
        }
    }
};

void add_moments(LogitSums& sums, const SeenScores& seen) {
    double c = 0, r = 0, cc = 0, rr = 0, cr = 0;
    const float *content = seen.content.data(), *rope = seen.rope.data();
#pragma omp simd reduction(+ : c, r, cc, rr, cr)
    for (int64_t j = 0; j < seen.count; ++j) {
        const double x = content[j], y = rope[j];
        c += x;
        r += y;
        cc += x * x;
        rr += y * y;
        cr += x * y;
    }
    sums.pairs += static_cast<double>(seen.count);
    sums.content += c;
    sums.rope += r;
    sums.content_squares += cc;
    sums.rope_squares += rr;
    sums.products += cr;
}

void add_entropy(LogitSums& sums, const SeenScores& seen) {
    const float *content = seen.content.data(), *rope = seen.rope.data();
    float largest = content[0] + rope[0];
#pragma omp simd reduction(max : largest)
    for (int64_t j = 1; j < seen.count; ++j) {
        const float s = content[j] + rope[j];
        largest = largest < s ? s : largest;
    }
    double z = 0, a = 0;
#pragma omp simd reduction(+ : z, a)
    for (int64_t j = 0; j < seen.count; ++j) {
        const float below = content[j] + rope[j] - largest;
        const double e = fast_exp(below);
        z += e;
        a += e * below;
    }
    const double entropy = std::log(z) - a / z;
    sums.largest = std::max(sums.largest, static_cast<double>(largest));
    sums.entropy += entropy;
    if (seen.count < 2) return;
    sums.choices += 1;
    sums.entropy_ratio += entropy / std::log(static_cast<double>(seen.count));
}

}  // namespace

void attention_logits(CpuContext& ctx, Tensor sums, const AttentionInputs& in) {
    const int64_t time = in.q.size(1), heads = in.q.size(2), tiles = sums.size(2), width = in.k.size(3);
    const int64_t group = heads / in.k.size(2), rotary = in.q.size(3) - width;
    parallel_for(ctx, in.q.size(0) * heads, time * time * in.q.size(3), [&](int64_t i) {
        const int64_t b = i / heads, h = i % heads;
        const HeadRows q = rows_of(in.q, b, h), k = rows_of(in.k, b, h / group);
        const HeadRows k_shared =
            rotary > 0 ? rows_of(in.k_shared.unflatten(2, 1, rotary), b, 0) : HeadRows{};
        std::vector<float> content(static_cast<size_t>(std::min(kLogitTile, time) * time)),
            rope(content.size());
        SeenScores seen(time);
        const FirstKeys first_keys(in.documents, b);
        for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t begin = tile * kLogitTile, rows = std::min(kLogitTile, time - begin);
            const int64_t first = first_keys.of(begin), keys = begin + rows - first;
            part_scores(k.row(first), k.stride, width, in.scale, q.row(begin), q.stride, rows, keys,
                        content.data());
            if (rotary > 0)
                part_scores(k_shared.row(first), k_shared.stride, rotary, in.scale, q.row(begin) + width,
                            q.stride, rows, keys, rope.data());
            LogitSums of_tile{};
            of_tile.largest = -std::numeric_limits<double>::infinity();
            for (int64_t r = 0; r < rows; ++r) {
                seen.gather({begin + r, in.stride, first_keys.of(begin + r)}, first,
                            content.data() + r * keys, rope.data() + r * keys);
                add_moments(of_tile, seen);
                add_entropy(of_tile, seen);
            }
            if (std::isnan(of_tile.content_squares + of_tile.rope_squares))
                of_tile.largest = std::numeric_limits<double>::quiet_NaN();
            const auto numbers = std::bit_cast<std::array<double, kLogitSums>>(of_tile);
            std::copy(numbers.begin(), numbers.end(), sums.data<double>() + (i * tiles + tile) * kLogitSums);
        }
    });
}

}  // namespace pastur
