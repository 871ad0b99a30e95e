#pragma once
// The leading eigenvectors of symmetric positive semidefinite operators A by subspace iteration with Chebyshev filters
// (Zhou & Saad, "A Chebyshev-Davidson algorithm for large symmetric eigenproblems", SIAM J. Matrix Anal. Appl. 2007).
// A block of p rows per operator is multiplied by a polynomial of A that is small on [0, b], where b is the block's
// least Ritz value, and grows fast above; then it is made orthonormal and rotated onto its Ritz vectors. The start is
// drawn by a fixed key, so that the result depends on A alone.
#include <cstdint>
#include <vector>

#include "diag/subspace.h"

namespace pastur {

/// next = alpha A current + beta current + gamma previous.
struct FilterStep {
    double alpha, beta, gamma;
};

struct BlockShape {
    int64_t items, rows, width;
    constexpr int64_t numbers() const { return items * rows * width; }
};

/// The blocks X [items][rows][width] and their images A X on one device. Numbers of all items are in one vector.
class SubspaceBlocks {
  public:
    explicit SubspaceBlocks(const BlockShape& shape) : shape_(shape) {}
    virtual ~SubspaceBlocks() = default;
    const BlockShape& shape() const { return shape_; }

    /// Sets X of every item to `block` [rows][width].
    virtual void start(const std::vector<double>& block) = 0;
    /// Makes the rows of X orthonormal, in their order. A row within the span of those before becomes orthogonal
    /// rounding noise, or zero if nothing remains.
    virtual void orthonormalise() = 0;
    /// Computes A X and returns X A X^T [items][rows][rows].
    virtual std::vector<double> project() = 0;
    /// Replaces X by S X and A X by S A X for `rotations` S [items][rows][rows]. Returns the norms [items][rows] of
    /// A x_i - values_i x_i.
    virtual std::vector<double> rotate(const std::vector<double>& rotations,
                                       const std::vector<double>& values) = 0;
    /// X = the last of the recurrence of `steps` [steps][items], which begins with X and the known A X: the first step
    /// has no previous block. A X is undefined from then on.
    virtual void filter(const std::vector<FilterStep>& steps) = 0;
    /// X [items][rows][width].
    virtual std::vector<double> read() = 0;

  private:
    BlockShape shape_;
};

/// Rows of a block that finds k vectors of width d: further ones, up to 32, separate the wanted ones from the rest.
int64_t block_rows(int64_t k, int64_t width);
/// The largest number of steps that filter() is asked for at once.
inline constexpr int64_t kFilterSteps = 16;

/// The k leading eigenvectors of every operator, from the largest eigenvalue on; fewer where further eigenvalues are
/// zero to rounding, none where the operator is not finite or 60 filters were not enough. Their residuals are at most
/// 1e-10 of their eigenvalues plus 1e-14 of the largest, or 1e-12 where rounding leaves no more. Equal eigenvalues have no vectors of their own: any basis of
/// their span is found.
std::vector<Subspace> leading_eigenvectors(SubspaceBlocks& blocks, int64_t k);

}  // namespace pastur
