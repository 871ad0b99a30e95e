#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>

namespace pastur {

/// e^x to 2 ulp for x in [-87, 88]; saturates outside that range; NaN for NaN. Loops over it vectorise, which
/// std::exp would allow only with options that ignore NaN everywhere. Cody-Waite reduction and the minimax
/// polynomial of Cephes.
inline float fast_exp(float argument) {
    constexpr float kLog2E = 1.44269504f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
    const float x = std::min(std::max(argument, -87.0f), 88.0f);
    const float shifted = x * kLog2E + kRound;
    const float n = shifted - kRound;
    const float r = (x - n * kLn2High) - n * kLn2Low;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    const float y = p * r * r + r + 1.0f;
    // The low bits of `shifted` are n. Adding them to the exponent of y multiplies it by 2^n.
    const auto power =
        std::bit_cast<float>(std::bit_cast<uint32_t>(y) + (std::bit_cast<uint32_t>(shifted) << 23));
    // The payload of a NaN would be shifted into the exponent. This comparison compiles to a blend.
    return argument == argument ? power : argument;
}

struct Softmax {
    float largest, sum;  ///< sum of exp(x - largest)
};

/// Maximum and sum of exponentials of count >= 1 numbers. With kKeep, exps[i] = exp(x[i] - largest); exps may
/// be x. fp32 sums of kSoftmaxBlock numbers are added in fp64, because one fp32 sum of a whole vocabulary would lose the
/// numbers that are small next to it: the loss of SmolLM2 was too low by 1.7e-5.
inline constexpr int64_t kSoftmaxBlock = 256;
template <bool kKeep>
Softmax softmax_of(const float* x, int64_t count, float* exps) {
    float largest = x[0];
    // With std::max, which takes references, GCC does not vectorise this loop, and it takes twelve times as
    // long.
#pragma omp simd reduction(max : largest)
    for (int64_t i = 1; i < count; ++i) largest = largest < x[i] ? x[i] : largest;
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += kSoftmaxBlock) {
        const int64_t end = std::min(begin + kSoftmaxBlock, count);
        float of_block = 0;
#pragma omp simd reduction(+ : of_block)
        for (int64_t i = begin; i < end; ++i) {
            const float e = fast_exp(x[i] - largest);
            if constexpr (kKeep) exps[i] = e;
            of_block += e;
        }
        sum += of_block;
    }
    return {largest, static_cast<float>(sum)};
}

inline float sigmoid(float x) {
    return 1.0f / (1.0f + fast_exp(-x));
}

}  // namespace pastur
