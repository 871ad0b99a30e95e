#pragma once
// The leading left singular vectors of a matrix, and how much two such subspaces have in common.
#include <cstdint>
#include <vector>

namespace pastur {

/// Orthonormal rows [count, width].
struct Subspace {
    int64_t count = 0, width = 0;
    std::vector<double> vectors = {};
};

/// The mean squared cosine of the principal angles: |U V^T|_F^2 / max(u, v) for the u and v vectors of both. 1 for equal
/// subspaces, 0 for orthogonal ones; NaN if either is empty. Random ones of k vectors in d dimensions have k / d in the
/// mean.
double overlap(const Subspace& u, const Subspace& v);

}  // namespace pastur
