#include "kernels/optimizer/adamw.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void adamw_step(Context& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params) {
    const auto is_flat = [&](const ConstTensor& x) {
        return (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) && x.rank() == 1 && x.contiguous() &&
               x.shape() == param.shape();
    };
    for (const ConstTensor& x : {ConstTensor(param), ConstTensor(m), ConstTensor(v), grad})
        PASTUR_CHECK(is_flat(x), "adamw_step: {}, param {}", describe(x), describe(param));
    PASTUR_CHECK(grad.dtype() == DType::kF32, "adamw_step: grad {}", describe(grad));
    PASTUR_CHECK(m.dtype() == v.dtype(), "adamw_step: m {}, v {}", describe(m), describe(v));
    const DType copy = param.dtype() == DType::kF32 ? DType::kBF16 : DType::kF32;
    PASTUR_CHECK(compute.empty() || (compute.dtype() == copy && compute.shape() == param.shape()),
                 "adamw_step: compute {}, param {}", describe(compute), describe(param));
    PASTUR_CHECK(sums.dtype() == DType::kF64 && sums.rank() == 1 && sums.numel() >= 1 && sums.contiguous(),
                 "adamw_step: sums {}", describe(sums));
    PASTUR_CHECK(params.step >= 1, "adamw_step: step {}", params.step);
    PASTUR_CHECK(params.beta1 < 1 && params.beta2 < 1,
                 "adamw_step: beta1 {} and beta2 {} must be below 1 in fp32", params.beta1, params.beta2);
    const OpScope scope(ctx, OpFamily::kAdamw, 0, 2 * bytes_of(param, m, v) + bytes_of(compute, grad));
    std::visit([&](auto& c) { adamw_step(c, param, m, v, compute, grad, sums, params); }, ctx);
}

}  // namespace pastur
