#pragma once
// Eigenvalues of a symmetric tridiagonal matrix by bisection with Sturm counts (Golub and Van Loan, Matrix
// Computations, section 8.4).
#include <cfloat>

namespace pastur {

/// In shared memory; beside[i] stands between rows i and i + 1. Its norm should be about 1.
struct Tridiagonal {
    const double *diagonal, *beside;
    int n;

    /// How many eigenvalues lie below x: the negative pivots of T - x.
    __device__ int count_below(double x) const {
        constexpr double kSmallestPivot = 1e-290;
        int count = 0;
        double pivot = 1;
        for (int i = 0; i < n; ++i) {
            const double next_to = i == 0 ? 0 : beside[i - 1];
            pivot = diagonal[i] - x - next_to * next_to / pivot;
            if (fabs(pivot) < kSmallestPivot) pivot = -kSmallestPivot;
            count += pivot < 0;
        }
        return count;
    }

    /// Gershgorin's interval, of less than 4 n.
    __device__ void bounds(double& low, double& high) const {
        low = DBL_MAX;
        high = -DBL_MAX;
        for (int i = 0; i < n; ++i) {
            const double radius = (i > 0 ? fabs(beside[i - 1]) : 0) + (i < n - 1 ? fabs(beside[i]) : 0);
            low = fmin(low, diagonal[i] - radius);
            high = fmax(high, diagonal[i] + radius);
        }
    }
};

}  // namespace pastur
