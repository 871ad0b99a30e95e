#include "kernels/optimizer/qk_clip.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void scale_head_rows(Context& ctx, const ScaledRows& rows) {
    const Tensor &param = rows.param, &compute = rows.compute;
    const auto is_matrix = [](const Tensor& x) {
        return (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16) && x.rank() == 2 && x.stride(1) == 1;
    };
    PASTUR_CHECK(is_matrix(param), "scale_head_rows: param {}", describe(param));
    PASTUR_CHECK(compute.empty() || (is_matrix(compute) && compute.dtype() != param.dtype() &&
                                     compute.shape() == param.shape()),
                 "scale_head_rows: compute {}, param {}", describe(compute), describe(param));
    const ConstTensor& factors = rows.factors;
    PASTUR_CHECK(factors.dtype() == DType::kF32 && factors.rank() == 1 && factors.contiguous(),
                 "scale_head_rows: factors {}", describe(factors));
    const HeadRows& heads = rows.heads;
    const int64_t end = heads.first + (factors.numel() - 1) * heads.stride + heads.rows;
    PASTUR_CHECK(heads.rows >= 1 && heads.first >= 0 && heads.stride >= heads.rows && end <= param.size(0),
                 "scale_head_rows: {} heads of {} rows from {} on, {} apart, of param {}", factors.numel(),
                 heads.rows, heads.first, heads.stride, describe(param));
    const int64_t bytes_per_column =
        2 * size_of(param.dtype()) + (compute.empty() ? 0 : size_of(compute.dtype()));
    const OpScope scope(ctx, OpFamily::kQkClip, 0,
                        static_cast<double>(factors.numel() * heads.rows * param.size(1) * bytes_per_column));
    std::visit([&](auto& c) { scale_head_rows(c, rows); }, ctx);
}

}  // namespace pastur
