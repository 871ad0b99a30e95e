#pragma once
// QK-Clip (Kimi K2, arXiv 2507.20534): scales the rows of a weight matrix that make one head's queries or keys.
#include "kernels/base/context.h"
#include "kernels/optimizer/stochastic_rounding.h"

namespace pastur {

/// Rows of a matrix that belong to heads: head h has rows first + h stride to first + h stride + rows - 1.
struct HeadRows {
    int64_t rows, first, stride;
};

/// Arguments of scale_head_rows().
struct ScaledRows {
    Tensor param;    ///< f32 or bf16 [>= the last head's last row, columns]; rows may be strided
    Tensor compute;  ///< of param's shape: bf16 (param f32), f32 (param bf16), or empty; rows may be strided
    ConstTensor factors;  ///< f32 [H]
    HeadRows heads;
    RoundingParams rounding = {};  ///< of param where it is bf16; first_element: of param's first number
    int64_t step = 0;              ///< key of the random bits
};

/// For every head h and row r of it: param[r] *= factors[h], computed in fp32 and rounded once where param is bf16;
/// compute[r] = param[r], rounded to nearest where it is bf16. Rows of no head, and of heads whose factor is 1, keep their
/// bits in both.
void scale_head_rows(Context& ctx, const ScaledRows& rows);

void scale_head_rows(CpuContext& ctx, const ScaledRows& rows);
#if defined(PASTUR_HAVE_CUDA)
void scale_head_rows(CudaContext& ctx, const ScaledRows& rows);
#endif

}  // namespace pastur
