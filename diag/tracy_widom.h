#pragma once
// The Tracy-Widom law of the largest eigenvalue, real symmetric case (beta = 1).
// Tracy & Widom, "On orthogonal and symplectic matrix ensembles", Commun. Math. Phys. 177 (1996).

namespace pastur {

inline constexpr double kTracyWidomMean = -1.2065335745820;

/// The s with F_1(s) = p, within 1e-4, from p = 0.9 on within 1e-5. Throws (kUsage) unless p is in [0.01,
/// 0.9999]. F_1(s) = det(1 - B_s) on L^2(0, inf) with B_s(x, y) = Ai(x + y + s) (Ferrari & Spohn, J. Phys. A
/// 38 (2005)) is tabulated by Bornemann's quadrature (Math. Comp. 79 (2010)) and interpolated in ln(p / (1 -
/// p)).
double tracy_widom_quantile(double p);

/// The upper edge of a law at finite size: the largest of n eigenvalues whose density ends as
/// (a / pi) sqrt(edge - lambda) is distributed like edge + (n a)^(-2/3) TW_1.
struct SoftEdge {
    double edge;   ///< where the density ends
    double scale;  ///< (n a)^(-2/3)

    double quantile(double p) const { return edge + scale * tracy_widom_quantile(p); }
    double mean() const { return edge + scale * kTracyWidomMean; }
};

}  // namespace pastur
