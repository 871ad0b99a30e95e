#pragma once
#include <algorithm>
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

struct AttentionSizes {
    int64_t batch = 1, time = 1, heads = 1, kv_heads = 1;
    int64_t content = 0;  ///< d_n
    int64_t rotary = 0;   ///< d_r, width of the key all heads share; 0: none
    int64_t value = 0;    ///< d_v
    int64_t stride = 1;   ///< query i sees key n iff n = i, or n <= i and (n + 1) mod stride = 0
    std::vector<int32_t> first_key = {};  ///< [batch, time]: and n >= first_key[i]; empty: 0
    int64_t query() const { return content + rotary; }
    bool sees(int64_t sequence, int64_t query, int64_t key) const {
        const int64_t first = first_key.empty() ? 0 : at(first_key, sequence * time + query);
        return key >= first && (key == query || (key < query && (key + 1) % stride == 0));
    }
};

template <class S>
struct AttentionResult {
    std::vector<S> out;  ///< [batch, time, heads, value]
    std::vector<S> lse;  ///< [batch, heads, time]
};

/// q [batch, time, heads, content + rotary], k [batch, time, kv_heads, content], k_shared [batch, time,
/// rotary], v [batch, time, kv_heads, value]. Head h reads key head h / (heads / kv_heads).
template <class S>
AttentionResult<S> causal_attention(const std::vector<S>& q, const std::vector<S>& k,
                                    const std::vector<S>& k_shared, const std::vector<S>& v,
                                    const AttentionSizes& n, double scale) {
    AttentionResult<S> result{zeros<S>(n.batch * n.time * n.heads * n.value),
                              zeros<S>(n.batch * n.heads * n.time)};
    std::vector<S> p = zeros<S>(n.time);
    for (int64_t b = 0; b < n.batch; ++b) {
        for (int64_t h = 0; h < n.heads; ++h) {
            const int64_t kv = h / (n.heads / n.kv_heads);
            for (int64_t t = 0; t < n.time; ++t) {
                const S* query = &at(q, ((b * n.time + t) * n.heads + h) * n.query());
                double largest = -INFINITY;
                for (int64_t s = 0; s <= t; ++s) {
                    if (!n.sees(b, t, s)) continue;
                    const S* key = &at(k, ((b * n.time + s) * n.kv_heads + kv) * n.content);
                    S score(0);
                    for (int64_t d = 0; d < n.content; ++d) score += query[d] * key[d];
                    for (int64_t d = 0; d < n.rotary; ++d)
                        score += query[n.content + d] * at(k_shared, (b * n.time + s) * n.rotary + d);
                    at(p, s) = score * scale;
                    largest = std::max(largest, real_part(at(p, s)));
                }
                // Subtracting the largest real part is a shift by a constant: the result stays analytic.
                S sum(0);
                for (int64_t s = 0; s <= t; ++s) {
                    if (!n.sees(b, t, s)) continue;
                    at(p, s) = std::exp(at(p, s) - largest);
                    sum += at(p, s);
                }
                S* out = &at(result.out, ((b * n.time + t) * n.heads + h) * n.value);
                for (int64_t s = 0; s <= t; ++s) {
                    if (!n.sees(b, t, s)) continue;
                    const S* value = &at(v, ((b * n.time + s) * n.kv_heads + kv) * n.value);
                    const S weight = at(p, s) / sum;
                    for (int64_t d = 0; d < n.value; ++d) out[d] += weight * value[d];
                }
                at(result.lse, (b * n.heads + h) * n.time + t) = largest + std::log(sum);
            }
        }
    }
    return result;
}

}  // namespace pastur::ref
