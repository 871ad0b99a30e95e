#pragma once
// Stores of an optimizer's numbers: fp32 as they are, bf16 rounded as kernels/optimizer/stochastic_rounding.h says.
#include "kernels/cuda/numeric.cuh"
#include "kernels/optimizer/stochastic_rounding.h"

namespace pastur {

/// How one kind of number is rounded to bf16 in one step, and the key of its random bits.
struct NumberRounding {
    Bf16Rounding mode;
    uint64_t seed;
    int64_t step;
    RoundedNumber number;
};

__device__ inline NumberRounding number_rounding(const RoundingParams& params, int64_t step,
                                                 RoundedNumber number) {
    const bool moment = number == RoundedNumber::kFirstMoment || number == RoundedNumber::kSecondMoment;
    return {moment ? params.moments : params.param, params.seed, step, number};
}

/// kWidth numbers rounded to bf16; `element` is the number of the first one within the model. kWidth is 1, or
/// kElementsPerBlock with `element` a multiple of it.
template <int kWidth>
__device__ Packed<bf16, kWidth> rounded(const NumberRounding& rounding, const float (&numbers)[kWidth],
                                        int64_t element) {
    if (rounding.mode == Bf16Rounding::kNearest)
        return Packed<bf16, kWidth>::of([&](int i) { return numbers[i]; });
    const PhiloxBlock bits =
        rounding_bits(rounding.seed, rounding.step, rounding.number, element / kElementsPerBlock);
    const int lane = static_cast<int>(element % kElementsPerBlock);
    // bf16 numbers, so packing them is exact.
    return Packed<bf16, kWidth>::of([&](int i) {
        const uint32_t high = round_stochastically(numbers[i], bits_of_lane(bits, lane + i));
        return __uint_as_float(high << 16);
    });
}

/// Stores kWidth numbers at `to`, aligned to kWidth of them, and returns what was stored.
template <typename T, int kWidth>
__device__ Packed<T, kWidth> store_rounded(const NumberRounding& rounding, T* to,
                                           const float (&numbers)[kWidth], int64_t element) {
    Packed<T, kWidth> stored;
    if constexpr (std::is_same_v<T, float>)
        stored = Packed<float, kWidth>::of([&](int i) { return numbers[i]; });
    else
        stored = rounded(rounding, numbers, element);
    stored.store(to);
    return stored;
}

/// store_rounded() of one number.
template <typename T>
__device__ float store_rounded(const NumberRounding& rounding, T* to, float number, int64_t element) {
    const float numbers[1] = {number};
    return store_rounded(rounding, to, numbers, element)[0];
}

}  // namespace pastur
