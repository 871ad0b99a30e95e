#pragma once
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), and cuRAND's uniform and normal numbers from it.
#include <array>
#include <cmath>
#include <numbers>

#include "tests/ref/vector.h"

namespace pastur::ref {

using Counter = std::array<uint32_t, 4>;
using Key = std::array<uint32_t, 2>;

inline Counter philox4x32_10(Counter c, Key key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
        c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(b),
             static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(a)};
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return c;
}

/// The four random words of elements 4 i to 4 i + 3 of a sequence.
inline Counter philox_block(uint64_t seed, uint64_t stream, uint64_t i) {
    const auto low = [](uint64_t x) { return static_cast<uint32_t>(x); };
    const auto high = [](uint64_t x) { return static_cast<uint32_t>(x >> 32); };
    return philox4x32_10({low(i), high(i), low(stream), high(stream)}, {low(seed), high(seed)});
}

/// A number in (0, 1] in float arithmetic, as curand_uniform computes it.
inline float uniform_of(uint32_t word) {
    return static_cast<float>(word) * 0x1p-32f + 0x1p-33f;
}

inline float philox_uniform(uint64_t seed, uint64_t stream, int64_t element) {
    const auto i = static_cast<uint64_t>(element);
    return uniform_of(philox_block(seed, stream, i / 4)[i % 4]);
}

/// As curand_normal4: words 0 and 1 give elements 0 (sine) and 1 (cosine), words 2 and 3 give 2 and 3.
inline double philox_normal(uint64_t seed, uint64_t stream, int64_t element) {
    const auto i = static_cast<uint64_t>(element);
    const Counter words = philox_block(seed, stream, i / 4);
    const size_t pair = i % 4 / 2 * 2;
    const double radius = std::sqrt(-2.0 * std::log(static_cast<double>(uniform_of(words[pair]))));
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(uniform_of(words[pair + 1]));
    return radius * (i % 2 == 0 ? std::sin(angle) : std::cos(angle));
}

}  // namespace pastur::ref
