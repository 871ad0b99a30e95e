#pragma once
// Stages 0 and 1 of a conversion (TransMLA, arXiv 2502.07864): the keys of all g heads are one stacked key, and at each
// RoPE frequency f the g pairs (k[f], k[f + D/2]) of the heads, read as complex numbers z, are rotated into one another:
// z' = U^* z with the eigenvectors U of E[z z^*]. RoPE multiplies every z of a frequency by the same phase, so U commutes
// with it, and scores do not change if queries are rotated alike. Energy moves to the leading component.
#include "engine/convert/stages/eigen.h"

namespace pastur::convert {

/// kReal: U is real, the eigenvectors of Re E[z z^*], as published. kComplex: U is unitary, the eigenvectors of E[z z^*];
/// the leading component then has at least the energy of the real one, by the variational principle.
enum class RotationKind : uint8_t { kReal, kComplex };

/// Sizes of grouped-query attention: C, H, g, D.
struct HeadSizes {
    int64_t width, heads, kv_heads, head_dim;
    int64_t frequencies() const { return head_dim / 2; }
    int64_t group() const { return heads / kv_heads; }  ///< queries per key
};

/// What keeps RoPE.
struct RopePlan {
    int64_t rope_dim;  ///< d_R, which divides D: frequencies 0, D / d_R, 2 D / d_R, ... keep their rotation
    int64_t fold = 1;  ///< adjacent frequencies rotated into one another as if they were equal (FreqFold)
};

/// Adjacent frequencies whose components of all heads are rotated into one another.
struct FrequencyGroup {
    int64_t first, count;          ///< frequencies [first, first + count)
    int64_t kept;                  ///< leading components that keep RoPE
    std::vector<double> energies;  ///< E|z'|^2 of each component, descending
    /// [count g, count g]: column e is component e. Row (f - first) g + j is frequency f of head j.
    ComplexMatrix vectors;
};

/// The rotation of all frequencies. keys [g D, C]: W_K. moment [C, C]: E[x x^T] of the attention's inputs.
std::vector<FrequencyGroup> rotate_frequencies(const Matrix& keys, const Matrix& moment,
                                               const HeadSizes& sizes, const RopePlan& plan,
                                               RotationKind rotation);

/// The two rows, real and imaginary part, of component e of the stacked keys [g D, C].
Matrix component_keys(const Matrix& keys, const FrequencyGroup& group, int64_t e, const HeadSizes& sizes);
/// The two rows of component e of the queries [H D, C] of a head, in the same rotation.
Matrix component_queries(const Matrix& queries, const FrequencyGroup& group, int64_t e, int64_t head,
                         const HeadSizes& sizes);

/// Stage 2: the leading components with RoPE, the rest without. Content scores are those of the head's own queries with
/// content_keys, since the rotation of both cancels outside the leading components.
struct PartialRope {
    Matrix rope_keys;     ///< [d_R, C], one for all heads, pairs (i, i + d_R/2)
    Matrix rope_queries;  ///< [H d_R, C]
    Matrix content_keys;  ///< [g D, C]
};
PartialRope split_rope(const Matrix& queries, const Matrix& keys, const std::vector<FrequencyGroup>& groups,
                       const HeadSizes& sizes, const RopePlan& plan);

/// The share of the keys' energy in the components that keep RoPE.
double rope_share(const std::vector<FrequencyGroup>& groups);

}  // namespace pastur::convert
