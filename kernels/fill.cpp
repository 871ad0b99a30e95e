#include "kernels/fill.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check_random(const char* op, const ConstTensor& x) {
    PASTUR_CHECK(x.dtype() == DType::kF32 && x.contiguous(), "{}: {}", op, describe(x));
}

}  // namespace

void fill(Context& ctx, Tensor x, float value) {
    PASTUR_CHECK(x.dtype() != DType::kI32 && x.contiguous(), "fill: {}", describe(x));
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(x));
    std::visit([&](auto& c) { fill(c, x, value); }, ctx);
}

void fill_uniform(Context& ctx, Tensor x, uint64_t seed, uint64_t stream) {
    check_random("fill_uniform", x);
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(x));
    std::visit([&](auto& c) { fill_uniform(c, x, seed, stream); }, ctx);
}

void fill_normal(Context& ctx, Tensor x, float mean, float stddev, uint64_t seed, uint64_t stream) {
    check_random("fill_normal", x);
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(x));
    std::visit([&](auto& c) { fill_normal(c, x, mean, stddev, seed, stream); }, ctx);
}

void cast(Context& ctx, Tensor y, ConstTensor x) {
    const auto is_float = [](const ConstTensor& t) {
        return t.dtype() == DType::kF32 || t.dtype() == DType::kBF16;
    };
    PASTUR_CHECK(is_float(x) && is_float(y) && x.numel() == y.numel() && x.contiguous() && y.contiguous(),
                 "cast: {} from {}", describe(y), describe(x));
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(x, y));
    std::visit([&](auto& c) { cast(c, y, x); }, ctx);
}

}  // namespace pastur
