#pragma once
// Statistics of the scores of causal attention, the logits of its softmax, for diagnostics.
#include "kernels/attention/causal_attention.h"

namespace pastur {

/// Queries whose statistics are added up.
inline constexpr int64_t kLogitTile = 64;

/// Sums over a tile of queries, and over all pairs of one of them and a key that it sees. A score S = C + R has a
/// content part C and a rotary part R (0 without k_shared), both scaled.
struct LogitSums {
    double pairs;            ///< number of pairs
    double largest;          ///< max S, not a sum
    double content;          ///< C
    double rope;             ///< R
    double content_squares;  ///< C^2
    double rope_squares;     ///< R^2
    double products;         ///< C R
    double entropy;          ///< over queries i: H_i = -sum_j P_ij log P_ij, natural logarithm
    double choices;          ///< number of queries that see more than one key
    double entropy_ratio;    ///< over these queries: H_i / log(number of keys that query i sees)
};
inline constexpr int64_t kLogitSums = sizeof(LogitSums) / sizeof(double);

/// sums f64 [B, H, ceil(T / kLogitTile), kLogitSums] = the LogitSums of each tile. `in` as for
/// causal_attention_forward(), after the rotation; v, path and the output are not used. Scores are fp32 sums, their
/// statistics sums in fp64, all in a fixed order. The entropy needs no saved log-sum-exp: with m_i = max_j S_ij,
/// H_i = log Z_i - sum_j e^(S_ij - m_i) (S_ij - m_i) / Z_i, Z_i = sum_j e^(S_ij - m_i), which keeps its precision for
/// scores of any size. A NaN among the scores of a tile makes its statistics NaN, the largest score included.
void attention_logits(Context& ctx, Tensor sums, const AttentionInputs& in);

void attention_logits(CpuContext& ctx, Tensor sums, const AttentionInputs& in);
#if defined(PASTUR_HAVE_CUDA)
void attention_logits(CudaContext& ctx, Tensor sums, const AttentionInputs& in);
#endif

}  // namespace pastur
