#pragma once
// Rounding of fp32 numbers that are stored in bf16: to nearest, or stochastically with probabilities that
// make the expected value exact. The random bits depend on (seed, step, kind of number, element) only, so
// results do not depend on ranks, threads or launch shapes and a resumed run draws the same ones.
#include <bit>

#include "kernels/base/host_device.h"
#include "kernels/base/philox.h"
#include "kernels/base/tensor.h"

namespace pastur {

enum class Bf16Rounding : uint8_t { kNearest, kStochastic };

/// The numbers of an optimizer that are rounded; each draws its own random bits.
enum class RoundedNumber : uint64_t { kFirstMoment, kSecondMoment, kParam, kClippedParam };

/// How an update rounds what it stores in bf16, and the key of the random bits.
struct RoundingParams {
    Bf16Rounding moments = Bf16Rounding::kNearest, param = Bf16Rounding::kNearest;
    uint64_t seed = 0;
    int64_t first_element = 0;  ///< number of the first element of the update within the model
};

/// One block of random bits serves this many elements, 16 bits each.
inline constexpr int kElementsPerBlock = 8;

/// The random bits of elements 8 block to 8 block + 7.
PASTUR_HOST_DEVICE inline PhiloxBlock rounding_bits(uint64_t seed, int64_t step, RoundedNumber number,
                                                    int64_t block) {
    return philox_block(seed, static_cast<uint64_t>(step) * 4 + static_cast<uint64_t>(number),
                        static_cast<uint64_t>(block));
}

/// The 16 bits of an element, by its position in its block.
PASTUR_HOST_DEVICE inline uint32_t bits_of_lane(const PhiloxBlock& bits, int lane) {
    return bits[static_cast<size_t>(lane / 2)] >> (16 * (lane % 2)) & 0xffffu;
}

/// The two bf16 numbers next to `value` have the probabilities of linear interpolation if random16 is uniform
/// in [0, 2^16). NaN stays NaN; bf16 numbers and infinities are kept.
PASTUR_HOST_DEVICE inline uint16_t round_stochastically(float value, uint32_t random16) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + random16) >> 16);
}

}  // namespace pastur
