#pragma once
// A linear map of each head: what absorbs the up-projections of latent attention into queries and outputs while
// decoding (DeepSeek-V2, arXiv 2405.04434, section 2.1.2).
#include "kernels/base/context.h"

namespace pastur {

/// How a head's matrix is multiplied.
enum class HeadMap : uint8_t {
    kForward,     ///< y[n, h, :] = W_h x[n, h, :], w [H, O, I]
    kTransposed,  ///< y[n, h, :] = W_h^T x[n, h, :], w [H, I, O]
};

/// x [N, H, I], y [N, H, O] (=) and w are all f32 or all bf16, with unit stride in the last dimension and any other
/// strides. Sums are fp32, in ascending order of the input's columns or of fixed parts of them: the bits of a row do not
/// depend on N. Made for N up to a few hundred, where reading w takes the time.
void head_linear(Context& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map);

void head_linear(CpuContext& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map);
#if defined(PASTUR_HAVE_CUDA)
void head_linear(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, HeadMap map);
#endif

}  // namespace pastur
