#include "kernels/fill.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/philox.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

constexpr int64_t kPiece = 1 << 14;  // a multiple of 4, the numbers of a Philox block

/// values[i] = numbers_of(i / 4)[i % 4].
template <typename NumbersOf>
void fill_blocks(CpuContext& ctx, Tensor x, const NumbersOf& numbers_of) {
    float* values = x.data<float>();
    parallel_for_pieces(ctx, x.numel(), kPiece, 20, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += 4) {
            const std::array<float, 4> numbers = numbers_of(static_cast<uint64_t>(i / 4));
            std::copy_n(numbers.begin(), std::min<int64_t>(4, end - i), values + i);
        }
    });
}

template <typename T>
void fill_with(CpuContext& ctx, Tensor x, T value) {
    T* values = x.data<T>();
    parallel_for_pieces(ctx, x.numel(), kPiece, 20,
                        [&](int64_t begin, int64_t end) { std::fill(values + begin, values + end, value); });
}

}  // namespace

void fill(CpuContext& ctx, Tensor x, float value) {
    if (x.dtype() == DType::kF32) return fill_with(ctx, x, value);
    if (x.dtype() == DType::kF64) return fill_with(ctx, x, static_cast<double>(value));
    fill_with(ctx, x, to_bf16(value));
}

void fill_uniform(CpuContext& ctx, Tensor x, uint64_t seed, uint64_t stream) {
    fill_blocks(ctx, x, [&](uint64_t block) -> std::array<float, 4> {
        const PhiloxBlock bits = philox_block(seed, stream, block);
        return {philox_uniform(bits[0]), philox_uniform(bits[1]), philox_uniform(bits[2]),
                philox_uniform(bits[3])};
    });
}

void fill_normal(CpuContext& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream) {
    fill_blocks(ctx, x, [&](uint64_t block) -> std::array<float, 4> {
        const PhiloxBlock bits = philox_block(seed, stream, block);
        const auto [a, b] = philox_normals(bits[0], bits[1]);
        const auto [c, d] = philox_normals(bits[2], bits[3]);
        return {mean + stddev * a, mean + stddev * b, mean + stddev * c, mean + stddev * d};
    });
}

void cast(CpuContext& ctx, Tensor y, ConstTensor x) {
    if (x.dtype() == y.dtype()) return copy(ctx, y, x);
    const bool narrowing = y.dtype() == DType::kBF16;
    parallel_for_pieces(ctx, x.numel(), kPiece, 20, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            if (narrowing)
                y.data<Bf16>()[i] = to_bf16(x.data<float>()[i]);
            else
                y.data<float>()[i] = to_float(x.data<Bf16>()[i]);
        }
    });
}

}  // namespace pastur
