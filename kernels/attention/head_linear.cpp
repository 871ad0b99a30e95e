#include "kernels/attention/head_linear.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void head_linear(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map) {
    const auto text = [&] {
        return fmt::format("head_linear: y {}, x {}, w {}", describe(y), describe(x), describe(w));
    };
    const DType dtype = x.dtype();
    PASTUR_CHECK((dtype == DType::kF32 || dtype == DType::kBF16) && y.dtype() == dtype && w.dtype() == dtype,
                 "{}", text());
    PASTUR_CHECK(x.rank() == 3 && y.rank() == 3 && w.rank() == 3 && x.stride(2) == 1 && y.stride(2) == 1 &&
                     w.stride(2) == 1,
                 "{}", text());
    const int64_t in = w.size(map == HeadMap::kForward ? 2 : 1),
                  out = w.size(map == HeadMap::kForward ? 1 : 2);
    PASTUR_CHECK(y.size(0) == x.size(0) && x.size(1) == w.size(0) && y.size(1) == w.size(0) &&
                     x.size(2) == in && y.size(2) == out,
                 "{}", text());
    const OpScope scope(ctx, OpFamily::kMatmulForward,
                        2.0 * static_cast<double>(y.numel()) * static_cast<double>(in), bytes_of(y, x, w));
    std::visit([&](auto& c) { head_linear(c, y, x, w, map); }, ctx);
}

}  // namespace pastur
