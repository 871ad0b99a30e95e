#pragma once
#include <algorithm>
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

struct DecodeSizes {
    int64_t batch = 1, entries = 1, heads = 1, kv_heads = 1;
    int64_t content = 0;  ///< d_n
    int64_t rotary = 0;   ///< d_r; 0: no shared key
    int64_t value = 0;    ///< d_v
};

/// out [batch, heads, value]. q [batch, heads, content], q_shared [batch, heads, rotary], k [batch, entries, kv_heads,
/// content], k_shared [batch, entries, rotary], v [batch, entries, kv_heads, value]. Head h reads key head h / (heads /
/// kv_heads); sequence b sees entries [0, lengths[b]).
template <class S>
std::vector<S> decode_attention(const std::vector<S>& q, const std::vector<S>& q_shared,
                                const std::vector<S>& k, const std::vector<S>& k_shared,
                                const std::vector<S>& v, const std::vector<int32_t>& lengths,
                                const DecodeSizes& n, double scale) {
    std::vector<S> out = zeros<S>(n.batch * n.heads * n.value);
    for (int64_t b = 0; b < n.batch; ++b)
        for (int64_t h = 0; h < n.heads; ++h) {
            const int64_t kv = h / (n.heads / n.kv_heads), head = b * n.heads + h;
            std::vector<S> p = zeros<S>(at(lengths, b));
            double largest = -INFINITY;
            for (int64_t j = 0; j < at(lengths, b); ++j) {
                const int64_t entry = b * n.entries + j;
                for (int64_t i = 0; i < n.content; ++i)
                    at(p, j) += scale * at(q, head * n.content + i) *
                                at(k, (entry * n.kv_heads + kv) * n.content + i);
                for (int64_t i = 0; i < n.rotary; ++i)
                    at(p, j) +=
                        scale * at(q_shared, head * n.rotary + i) * at(k_shared, entry * n.rotary + i);
                largest = std::max(largest, real_part(at(p, j)));
            }
            S sum(0);
            for (S& x : p) sum += x = std::exp(x - largest);
            for (int64_t j = 0; j < at(lengths, b); ++j)
                for (int64_t i = 0; i < n.value; ++i)
                    at(out, head * n.value + i) +=
                        at(p, j) / sum * at(v, ((b * n.entries + j) * n.kv_heads + kv) * n.value + i);
        }
    return out;
}

}  // namespace pastur::ref
