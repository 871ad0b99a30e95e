#include "kernels/reduce.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& sum, const ConstTensor& x) {
    PASTUR_CHECK(sum.dtype() == DType::kF64 && sum.shape() == Shape{1}, "{}: sum {}", op, describe(sum));
    PASTUR_CHECK(x.contiguous() && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16), "{}: x {}", op,
                 describe(x));
}

bool is_flat(const ConstTensor& x, DType dtype, int rank) {
    return x.dtype() == dtype && x.rank() == rank && x.contiguous();
}

}  // namespace

void sum(Context& ctx, Tensor sum, ConstTensor x, Update update) {
    if (x.dtype() != DType::kF64) check("sum", sum, x);
    PASTUR_CHECK(sum.dtype() == DType::kF64 && sum.shape() == Shape{1} && x.contiguous(), "sum {} of {}",
                 describe(sum), describe(x));
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x));
    std::visit([&](auto& c) { pastur::sum(c, sum, x, update); }, ctx);
}

void sum_of_squares(Context& ctx, Tensor sum, ConstTensor x, Update update) {
    check("sum_of_squares", sum, x);
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x));
    std::visit([&](auto& c) { sum_of_squares(c, sum, x, update); }, ctx);
}

void piece_sums_of_squares(Context& ctx, Tensor sums, ConstTensor x) {
    PASTUR_CHECK(
        is_flat(x, DType::kF32, 1) && is_flat(sums, DType::kF64, 1) && x.numel() == sums.numel() * kSumPiece,
        "piece_sums_of_squares: {} of {}", describe(sums), describe(x));
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x));
    std::visit([&](auto& c) { piece_sums_of_squares(c, sums, x); }, ctx);
}

void sum_rows(Context& ctx, Tensor y, ConstTensor x, Update update) {
    PASTUR_CHECK(is_flat(y, DType::kF32, 1) && (is_flat(x, DType::kF32, 2) || is_flat(x, DType::kBF16, 2)) &&
                     x.size(0) >= 1 && x.size(1) == y.numel(),
                 "sum_rows: {} of {}", describe(y), describe(x));
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x, y));
    std::visit([&](auto& c) { sum_rows(c, y, x, update); }, ctx);
}

int64_t sum_scratch_bytes(Context& ctx, int64_t count) {
    return std::visit([&](auto& c) { return sum_scratch_bytes(c, count); }, ctx);
}

}  // namespace pastur
