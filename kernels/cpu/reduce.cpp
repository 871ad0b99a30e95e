#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/cpu/bf16_rounder.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// Elements in one partial sum. The number is fixed, so the order of summation does not depend on the
/// threads.
constexpr int64_t kPiece = 1 << 15;

int64_t pieces(int64_t count) {
    return std::max<int64_t>((count + kPiece - 1) / kPiece, 1);
}

// A lambda, which is inlined where a function is not.
constexpr auto kSquare = [](double x) { return x * x; };

/// Sum of term(x_i) over a piece. Sixteen independent partial sums hide the latency of addition.
template <typename T, typename Term>
double sum_of_piece(const T* values, int64_t count, const Term& term) {
    constexpr int64_t kLanes = 16;
    double lanes[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (int64_t lane = 0; lane < kLanes; ++lane)
            lanes[lane] += term(static_cast<double>(as_float(values[i + lane])));
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    for (; i < count; ++i) sum += term(static_cast<double>(as_float(values[i])));
    return sum;
}

template <typename Term>
void reduce(CpuContext& ctx, Tensor total, ConstTensor x, Update update, const Term& term) {
    Arena::Frame frame(ctx.scratch(), "sum");
    double* partial = frame.take(DType::kF64, {pieces(x.numel())}).data<double>();
    const auto sum_pieces = [&](const auto* values) {
        parallel_for_pieces(ctx, x.numel(), kPiece, 1, [&](int64_t begin, int64_t end) {
            partial[begin / kPiece] = sum_of_piece(values + begin, end - begin, term);
        });
    };
    x.dtype() == DType::kF32 ? sum_pieces(x.data<float>()) : sum_pieces(x.data<Bf16>());
    double& result = *total.data<double>();
    if (update == Update::kAssign) result = 0;
    for (int64_t i = 0; i * kPiece < x.numel(); ++i) result += partial[i];
}

template <typename T>
void sum_rows_of(CpuContext& ctx, const Tensor& y, const T* x, int64_t rows, Update update) {
    constexpr int64_t kBlock = 1 << 12;  // columns whose sums stay in the L1 cache
    const int64_t width = y.numel();
    float* result = y.data<float>();
    parallel_for_pieces(ctx, width, kBlock, rows, [&](int64_t begin, int64_t end) {
        int64_t r = 0;
        if (update == Update::kAssign) {
            for (int64_t i = begin; i < end; ++i) result[i] = as_float(x[i]);
            r = 1;
        }
        for (; r < rows; ++r)
            for (int64_t i = begin; i < end; ++i) result[i] += as_float(x[r * width + i]);
    });
}

}  // namespace

void sum(CpuContext& ctx, Tensor sum, ConstTensor x, Update update) {
    if (x.dtype() == DType::kF64) {
        // In sequence: with lanes, appended zeros would move the last numbers to other lanes and change bits.
        double total = update == Update::kAssign ? 0 : *sum.data<double>();
        for (int64_t i = 0; i < x.numel(); ++i) total += x.data<double>()[i];
        *sum.data<double>() = total;
        return;
    }
    reduce(ctx, sum, x, update, [](double value) { return value; });
}

void sum_of_squares(CpuContext& ctx, Tensor sum, ConstTensor x, Update update) {
    reduce(ctx, sum, x, update, kSquare);
}

void piece_sums_of_squares(CpuContext& ctx, Tensor sums, ConstTensor x) {
    const float* values = x.data<float>();
    double* results = sums.data<double>();
    parallel_for_pieces(ctx, x.numel(), kSumPiece, 1, [&](int64_t begin, int64_t end) {
        results[begin / kSumPiece] = sum_of_piece(values + begin, end - begin, kSquare);
    });
}

void sum_rows(CpuContext& ctx, Tensor y, ConstTensor x, Update update) {
    if (x.dtype() == DType::kF32) return sum_rows_of(ctx, y, x.data<float>(), x.size(0), update);
    sum_rows_of(ctx, y, x.data<Bf16>(), x.size(0), update);
}

int64_t sum_scratch_bytes(CpuContext&, int64_t count) {
    return align_up(pieces(count) * size_of(DType::kF64));
}

}  // namespace pastur
