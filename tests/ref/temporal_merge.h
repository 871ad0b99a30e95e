#pragma once
#include <cmath>

#include "tests/ref/vector.h"

namespace pastur::ref {

/// [chunks, width]: sin(j 10000^(-2i/width)) in column 2i, the cosine in column 2i + 1.
inline std::vector<double> chunk_positions(int64_t chunks, int64_t width) {
    std::vector<double> positions;
    for (int64_t j = 0; j < chunks; ++j)
        for (int64_t i = 0; i < width; ++i) {
            const double pair = static_cast<double>(i - i % 2) / static_cast<double>(width);
            const double angle = static_cast<double>(j) / std::pow(10000.0, pair);
            positions.push_back(i % 2 ? std::cos(angle) : std::sin(angle));
        }
    return positions;
}

struct MergeSizes {
    int64_t batch = 1, time = 1, stride = 1;
    int64_t width = 1;  ///< r
    int64_t code = 1;   ///< h
    std::vector<int32_t> first_key =
        {};  ///< [batch, time], the first token of each token's document; empty: 0
    int64_t tokens() const { return batch * time; }
    int64_t chunks() const { return (time + stride - 1) / stride; }
};

/// gate of every token: the sigmoid of (latent_code + latent_bias) . (chunk_code + chunk_bias).
template <class S>
std::vector<S> merge_gates(const std::vector<S>& latent_code, const std::vector<S>& chunk_code,
                           const std::vector<S>& latent_bias, const std::vector<S>& chunk_bias,
                           const MergeSizes& n) {
    std::vector<S> gates;
    for (int64_t token = 0; token < n.tokens(); ++token) {
        const int64_t chunk = token % n.time / n.stride;
        S z(0);
        for (int64_t i = 0; i < n.code; ++i)
            z += (at(latent_code, token * n.code + i) + at(latent_bias, i)) *
                 (at(chunk_code, chunk * n.code + i) + at(chunk_bias, i));
        gates.push_back(1.0 / (1.0 + std::exp(-z)));
    }
    return gates;
}

/// out_a = sum of gate_b c_b over the tokens b <= a of the chunk and the document of a; the sum is over all pairs of tokens.
template <class S>
std::vector<S> temporal_merge(const std::vector<S>& c, const std::vector<S>& gates, const MergeSizes& n) {
    std::vector<S> out = zeros<S>(n.tokens() * n.width);
    for (int64_t sequence = 0; sequence < n.batch; ++sequence)
        for (int64_t a = 0; a < n.time; ++a)
            for (int64_t b = a / n.stride * n.stride; b <= a; ++b) {
                if (!n.first_key.empty() && b < at(n.first_key, sequence * n.time + a)) continue;
                const int64_t to = sequence * n.time + a, from = sequence * n.time + b;
                for (int64_t i = 0; i < n.width; ++i)
                    at(out, to * n.width + i) += at(gates, from) * at(c, from * n.width + i);
            }
    return out;
}

}  // namespace pastur::ref
