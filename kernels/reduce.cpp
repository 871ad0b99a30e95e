#include "kernels/reduce.h"

#include "kernels/op_timer.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& sum, const ConstTensor& x) {
    PASTUR_CHECK(sum.dtype() == DType::kF64 && sum.shape() == Shape{1}, "{}: sum {}", op, describe(sum));
    PASTUR_CHECK(x.contiguous() && (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16), "{}: x {}", op,
                 describe(x));
}

}  // namespace

void sum(Context& ctx, Tensor sum, ConstTensor x, Update update) {
    check("sum", sum, x);
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x));
    std::visit([&](auto& c) { pastur::sum(c, sum, x, update); }, ctx);
}

void sum_of_squares(Context& ctx, Tensor sum, ConstTensor x, Update update) {
    check("sum_of_squares", sum, x);
    const OpScope scope(ctx, OpFamily::kReduce, 0, bytes_of(x));
    std::visit([&](auto& c) { sum_of_squares(c, sum, x, update); }, ctx);
}

int64_t sum_scratch_bytes(Context& ctx, int64_t count) {
    return std::visit([&](auto& c) { return sum_scratch_bytes(c, count); }, ctx);
}

}  // namespace pastur
