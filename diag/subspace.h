#pragma once
// The leading left singular vectors of a product of factors, and how much two such subspaces have in common.
#include <cstdint>
#include <vector>

#include "diag/spectrum.h"

namespace pastur {

/// Orthonormal rows [count, width].
struct Subspace {
    int64_t count = 0, width = 0;
    std::vector<double> vectors = {};
};

/// The leading left singular vectors of one item, whose factors lie in the host's memory: at most k, fewer where the
/// product's rank is smaller, none where it is not finite or LAPACK fails. fp64 by LAPACK on one thread. Equal singular
/// values have no vectors of their own: any basis of their span is returned.
Subspace leading_left_vectors(const FactorProduct& product, int64_t item, int64_t k);

/// The mean squared cosine of the principal angles: |U V^T|_F^2 / max(u, v) for the u and v vectors of both. 1 for equal
/// subspaces, 0 for orthogonal ones; NaN if either is empty. Random ones of k vectors in d dimensions have k / d in the
/// mean.
double overlap(const Subspace& u, const Subspace& v);

}  // namespace pastur
