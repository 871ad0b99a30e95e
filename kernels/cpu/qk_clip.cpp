#include "kernels/optimizer/qk_clip.h"

#include "kernels/cpu/bf16_rounder.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

template <typename Weight>
void scale_row(const ScaledRows& rows, int64_t row, float factor) {
    using Compute = std::conditional_t<std::is_same_v<Weight, float>, Bf16, float>;
    const int64_t columns = rows.param.size(1), begin = row * rows.param.stride(0);
    Weight* const param = rows.param.data<Weight>() + begin;
    Compute* const compute =
        rows.compute.empty() ? nullptr : rows.compute.data<Compute>() + row * rows.compute.stride(0);
    Bf16Rounder rounder(rows.rounding.param, rows.rounding.seed, rows.step, RoundedNumber::kClippedParam);
    for (int64_t i = 0; i < columns; ++i) {
        rounder.store(param[i], as_float(param[i]) * factor, rows.rounding.first_element + begin + i);
        if (!compute) continue;
        if constexpr (std::is_same_v<Compute, float>)
            compute[i] = as_float(param[i]);
        else
            compute[i] = to_bf16(param[i]);
    }
}

}  // namespace

void scale_head_rows(CpuContext& ctx, const ScaledRows& rows) {
    const float* const factors = rows.factors.data<float>();
    const HeadRows& heads = rows.heads;
    parallel_for(ctx, rows.factors.numel() * heads.rows, 4 * rows.param.size(1), [&](int64_t i) {
        const int64_t head = i / heads.rows, row = heads.first + head * heads.stride + i % heads.rows;
        if (factors[head] == 1.0f) return;
        if (rows.param.dtype() == DType::kF32)
            scale_row<float>(rows, row, factors[head]);
        else
            scale_row<Bf16>(rows, row, factors[head]);
    });
}

}  // namespace pastur
