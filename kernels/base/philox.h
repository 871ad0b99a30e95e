#pragma once
// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the conventions
// of cuRAND: the key is the seed, the low half of the counter is the index of a block of four numbers, and
// its high half is the subsequence.
#include <array>
#include <cmath>
#include <cstdint>

namespace pastur {

using PhiloxBlock = std::array<uint32_t, 4>;

constexpr PhiloxBlock philox4x32(PhiloxBlock counter, std::array<uint32_t, 2> key) {
    constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
    constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
    for (int round = 0; round < 10; ++round) {
        const uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
        counter = {
            static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
            static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
        key[0] += kWeyl0;
        key[1] += kWeyl1;
    }
    return counter;
}

/// The four 32-bit numbers of block `block` in subsequence `stream`.
constexpr PhiloxBlock philox_block(uint64_t seed, uint64_t stream, uint64_t block) {
    return philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                       static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                      {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

/// A uniform number in (0, 1], as curand_uniform.
inline float philox_uniform(uint32_t bits) {
    constexpr float kScale = 2.3283064e-10f;  // 2^-32
    return static_cast<float>(bits) * kScale + kScale / 2.0f;
}

/// Two standard normal numbers by the Box-Muller transform, as curand_normal2.
inline std::array<float, 2> philox_normals(uint32_t bits0, uint32_t bits1) {
    constexpr float kScale = 2.3283064e-10f, kScale2Pi = 2.3283064e-10f * 6.2831855f;
    const float u = static_cast<float>(bits0) * kScale + kScale / 2.0f;
    const float angle = static_cast<float>(bits1) * kScale2Pi + kScale2Pi / 2.0f;
    const float radius = std::sqrt(-2.0f * std::log(u));
    return {radius * std::sin(angle), radius * std::cos(angle)};
}

}  // namespace pastur
