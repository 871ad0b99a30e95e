#pragma once

namespace pastur {

/// A point of a law's curve.
struct LawPoint {
    double lambda;
    double density;  ///< of one nonzero eigenvalue at lambda
    double cdf;      ///< the share of nonzero eigenvalues up to lambda
};

}  // namespace pastur
