#pragma once
// Eigenvalues of a symmetric tridiagonal matrix by bisection with Sturm counts (Golub and Van Loan, Matrix
// Computations, section 8.4).
#include <cfloat>

namespace pastur {

/// A matrix in shared memory, of a norm of about 1; off_diagonal[i] couples rows i and i + 1.
struct Tridiagonal {
    const double *diagonal, *off_diagonal;
    int n;

    /// The number of eigenvalues below x, which is the number of negative pivots of T - x.
    __device__ int count_below(double x) const {
        constexpr double kSmallestPivot = 1e-290;
        int count = 0;
        double pivot = 1;
        for (int i = 0; i < n; ++i) {
            const double coupling = i == 0 ? 0 : off_diagonal[i - 1];
            pivot = diagonal[i] - x - coupling * coupling / pivot;
            if (fabs(pivot) < kSmallestPivot) pivot = -kSmallestPivot;
            count += pivot < 0;
        }
        return count;
    }

    /// Gershgorin's interval, whose length is below 4 n.
    __device__ void bounds(double& low, double& high) const {
        low = DBL_MAX;
        high = -DBL_MAX;
        for (int i = 0; i < n; ++i) {
            const double radius =
                (i > 0 ? fabs(off_diagonal[i - 1]) : 0) + (i < n - 1 ? fabs(off_diagonal[i]) : 0);
            low = fmin(low, diagonal[i] - radius);
            high = fmax(high, diagonal[i] + radius);
        }
    }
};

}  // namespace pastur
