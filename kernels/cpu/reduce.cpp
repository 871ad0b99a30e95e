#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// Elements one partial sum covers: fixed, so that the order of summation is.
constexpr int64_t kPiece = 1 << 15;

int64_t pieces(int64_t count) {
    return std::max<int64_t>((count + kPiece - 1) / kPiece, 1);
}

template <typename Term>
void reduce(CpuContext& ctx, Tensor total, ConstTensor x, Update update, const Term& term) {
    Arena::Frame frame(ctx.scratch(), "sum");
    double* partial = frame.take(DType::kF64, {pieces(x.numel())}).data<double>();
    const float* values = x.data<float>();
    parallel_for_pieces(ctx, x.numel(), kPiece, 1, [&](int64_t begin, int64_t end) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; ++i) sum += term(static_cast<double>(values[i]));
        partial[begin / kPiece] = sum;
    });
    double& result = *total.data<double>();
    if (update == Update::kAssign) result = 0;
    for (int64_t i = 0; i * kPiece < x.numel(); ++i) result += partial[i];
}

}  // namespace

void sum(CpuContext& ctx, Tensor sum, ConstTensor x, Update update) {
    if (x.dtype() == DType::kF64) {
        // One after the other: with lanes, how many numbers there are would decide which lane the last ones
        // fall into.
        double total = update == Update::kAssign ? 0 : *sum.data<double>();
        for (int64_t i = 0; i < x.numel(); ++i) total += x.data<double>()[i];
        *sum.data<double>() = total;
        return;
    }
    reduce(ctx, sum, x, update, [](double value) { return value; });
}

void sum_of_squares(CpuContext& ctx, Tensor sum, ConstTensor x, Update update) {
    reduce(ctx, sum, x, update, [](double value) { return value * value; });
}

void piece_sums_of_squares(CpuContext& ctx, Tensor sums, ConstTensor x) {
    const float* values = x.data<float>();
    double* results = sums.data<double>();
    parallel_for_pieces(ctx, x.numel(), kSumPiece, 1, [&](int64_t begin, int64_t end) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = begin; i < end; ++i)
            sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
        results[begin / kSumPiece] = sum;
    });
}

void sum_rows(CpuContext& ctx, Tensor y, ConstTensor x, Update update) {
    constexpr int64_t kBlock = 1 << 12;  // stays in the nearest cache while the rows pass
    const int64_t rows = x.size(0), width = x.size(1);
    float* result = y.data<float>();
    parallel_for_pieces(ctx, width, kBlock, rows, [&](int64_t begin, int64_t end) {
        const float* row = x.data<float>();
        int64_t r = 0;
        if (update == Update::kAssign) {
            std::copy(row + begin, row + end, result + begin);
            r = 1;
        }
        for (; r < rows; ++r)
            for (int64_t i = begin; i < end; ++i) result[i] += row[r * width + i];
    });
}

int64_t sum_scratch_bytes(CpuContext&, int64_t count) {
    return align_up(pieces(count) * size_of(DType::kF64));
}

}  // namespace pastur
