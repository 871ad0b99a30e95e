#pragma once
// Muon (Jordan et al., 2024; scaled as in Liu et al., arXiv 2502.16982): the momentum of a matrix is replaced
// by an approximation of its nearest orthogonal matrix before it updates the weights.
#include <algorithm>

#include "kernels/base/context.h"
#include "kernels/optimizer/adamw.h"

namespace pastur {

/// The polynomial p(x) = a x + b x^3 + c x^5 that a Newton-Schulz step applies to every singular value, and
/// the number of steps. Five steps take singular values of 0.0015 to 1 to between 0.68 and 1.21, and smaller
/// ones to at most 485 times their value.
inline constexpr float kNewtonSchulzA = 3.4445f, kNewtonSchulzB = -4.7750f, kNewtonSchulzC = 2.0315f;
inline constexpr int kNewtonSchulzSteps = 5;

/// Settings of one update.
struct MuonParams {
    float lr = 0, momentum = 0.95f, weight_decay = 0;
    float max_norm = 0;              ///< as in AdamwParams
    DType gemm_dtype = DType::kF32;  ///< of the operands of the Newton-Schulz GEMMs: f32 or bf16
    int64_t step = 1;                ///< counts from 1; a key of the random bits, as is `rounding`
    /// Of param if it is bf16. Element (r, c) has the number first_element + r param.stride(0) + c.
    RoundingParams rounding = {};
};

/// The tensors of one matrix. Rows may be strided.
struct MuonTensors {
    Tensor param;      ///< f32 or bf16 [rows, columns]
    Tensor momentum;   ///< f32 [rows, columns]
    Tensor compute;    ///< [rows, columns], bf16 where param is f32 and f32 where it is bf16; or empty
    ConstTensor grad;  ///< f32 [rows, columns]
};

/// With g = grad clip_factor(sums[0], max_norm) and mu = momentum:
///     m = mu m + (1 - mu) g;  n = mu m + (1 - mu) g (Nesterov);  x = n / |n|, the Frobenius norm;
///     five times: A = x x^T;  x = (a I + b A + c A A) x;
///     param -= lr (0.2 sqrt(max(rows, columns)) x + weight_decay param);  compute = param.
/// A matrix with more rows than columns is transposed for the GEMMs, so A has the shorter side. The GEMMs sum
/// in fp32; their operands and results have gemm_dtype. x is 0 where n is 0, or so small that 1 / |n|
/// overflows fp32. sums and the conditions under which nothing changes are those of adamw_step().
void muon_step(Context& ctx, const MuonTensors& tensors, ConstTensor sums, const MuonParams& params);

/// Bytes that muon_step() takes from ctx.scratch().
int64_t muon_scratch_bytes(int64_t rows, int64_t columns, DType gemm_dtype);

/// The steps of muon_step() between its GEMMs, for one matrix. x is [S, L] with S and L the shorter and the
/// longer side, rounded up to multiples of 8 as tensor cores need; what lies beyond the matrix is 0.
struct MuonCall {
    MuonTensors tensors;
    ConstTensor sums;
    MuonParams params;
    Tensor row_squares;  ///< f64 [rows]
    Tensor squares;      ///< f64 [1]: |n|^2
    bool transposed() const { return tensors.param.size(0) > tensors.param.size(1); }
};

/// m; row_squares[r] = the sum of n^2 over row r, or 0 if adamw_accepts() refuses the sums.
void muon_momentum(CpuContext& ctx, const MuonCall& call);
/// x = n / |n|. If there is no such x, x holds pseudo-random numbers: GEMM algorithms are compared by their
/// results, which needs operands that are neither 0 nor NaN.
void muon_normalise(CpuContext& ctx, Tensor x, const MuonCall& call);
/// squared [S, S] = a I + b gram + c squared.
void muon_polynomial(CpuContext& ctx, Tensor squared, ConstTensor gram);
/// param and compute from x; nothing changes if adamw_accepts() refuses the sums.
void muon_update(CpuContext& ctx, ConstTensor x, const MuonCall& call);

#if defined(PASTUR_HAVE_CUDA)
void muon_momentum(CudaContext& ctx, const MuonCall& call);
void muon_normalise(CudaContext& ctx, Tensor x, const MuonCall& call);
void muon_polynomial(CudaContext& ctx, Tensor squared, ConstTensor gram);
void muon_update(CudaContext& ctx, ConstTensor x, const MuonCall& call);
#endif

/// 0.2 sqrt(max(rows, columns)): gives the update the root mean square that AdamW's has (arXiv 2502.16982).
inline float muon_update_size(const ConstTensor& matrix) {
    return 0.2f * std::sqrt(static_cast<float>(std::max(matrix.size(0), matrix.size(1))));
}

/// 1 / |n|, or 0 if that is too large for fp32; NaN stays NaN.
PASTUR_HOST_DEVICE inline float reciprocal_norm(double squares) {
    const double reciprocal = 1.0 / sqrt(squares);
    return reciprocal > static_cast<double>(FLT_MAX) ? 0.0f : static_cast<float>(reciprocal);
}

/// A number in [-1, 1) from the low bits of a hash of the element's position.
PASTUR_HOST_DEVICE inline float muon_filler(int64_t row, int64_t column) {
    uint32_t bits = static_cast<uint32_t>(row) * 0x9e3779b9u ^ static_cast<uint32_t>(column) * 0x85ebca6bu;
    bits = (bits ^ bits >> 15) * 0x2c1b3c6du;
    bits ^= bits >> 12;
    return static_cast<float>(static_cast<int32_t>(bits & 0xffffffu) - 0x800000) * 0x1p-23f;
}

}  // namespace pastur
