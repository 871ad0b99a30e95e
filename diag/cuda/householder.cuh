#pragma once
// Householder reflections (Golub and Van Loan, Matrix Computations, section 5.1).

namespace pastur {

/// A sum of squares below this counts as zero. In a matrix whose largest magnitude is 1 nothing is lost, and
/// squares that have underflowed would give a reflector that is not orthogonal.
inline constexpr double kNegligibleSquares = 1e-280;

/// H = 1 - tau v v^T with v = (1, x / pivot) maps (alpha, x) to (beta, 0). tau = 0 where x counts as zero: H
/// is the identity.
struct Reflector {
    double beta, tau = 0, pivot = 1;

    /// `squares`: the sum of squares of x.
    __device__ Reflector(double alpha, double squares) : beta(alpha) {
        if (squares < kNegligibleSquares) return;
        beta = -copysign(sqrt(alpha * alpha + squares), alpha);
        tau = (beta - alpha) / beta;
        pivot = alpha - beta;
    }
};

}  // namespace pastur
