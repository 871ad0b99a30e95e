#include "kernels/attention/rope.h"

#include <cmath>

#include "kernels/base/op_timer.h"

namespace pastur {

void rope_table(Tensor table, double base) {
    PASTUR_CHECK(table.rank() == 2 && table.contiguous() && table.size(1) % 2 == 0, "rope_table: {}",
                 describe(table));
    const int64_t width = table.size(1), half = width / 2;
    float* values = table.data<float>();
    for (int64_t i = 0; i < half; ++i) {
        const double theta = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(width));
        for (int64_t t = 0; t < table.size(0); ++t) {
            values[t * width + i] = static_cast<float>(std::cos(static_cast<double>(t) * theta));
            values[t * width + half + i] = static_cast<float>(std::sin(static_cast<double>(t) * theta));
        }
    }
}

void rope(Context& ctx, Tensor out, ConstTensor in, ConstTensor table, Rotation rotation) {
    PASTUR_CHECK(in.rank() == 4 && out.shape() == in.shape() && out.dtype() == in.dtype() &&
                     in.stride(3) == 1 && out.stride(3) == 1 && in.size(3) % 2 == 0,
                 "rope: out {}, in {}", describe(out), describe(in));
    PASTUR_CHECK(in.dtype() == DType::kF32 || in.dtype() == DType::kBF16, "rope: in {}", describe(in));
    PASTUR_CHECK(table.rank() == 2 && table.dtype() == DType::kF32 && table.contiguous() &&
                     table.size(0) >= in.size(1) && table.size(1) == in.size(3),
                 "rope: table {}, in {}", describe(table), describe(in));
    const OpScope scope(ctx, OpFamily::kRope, 0, bytes_of(in, out));
    std::visit([&](auto& c) { rope(c, out, in, table, rotation); }, ctx);
}

}  // namespace pastur
