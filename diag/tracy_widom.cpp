#include "diag/tracy_widom.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kFirst = -5, kStep = 0.5;
/// ln(F_1 / (1 - F_1)) at s = -5, -4.5, ..., 6, which is close to a straight line where F_1 itself is flat.
/// tests/diag/tracy_widom_test.cpp checks the table by the same quadrature.
constexpr std::array kLogit = {-8.1879073773, -6.3836192667, -4.8762724578, -3.6275030180, -2.5928481982,
                               -1.7238359457, -0.9728128440, -0.2972666784, 0.3383509585,  0.9628449588,
                               1.5992108827,  2.2654062055,  2.9747704436,  3.7363261052,  4.5552590382,
                               5.4336870743,  6.3715912974,  7.3676896168,  8.4200980155,  9.5267460062,
                               10.6855953033, 11.8947334543, 13.1524011071};
constexpr int kPoints = 6;  ///< of the table, through which the polynomial passes

}  // namespace

double tracy_widom_quantile(double p) {
    if (!(p >= 0.01 && p <= 0.9999))
        fail(ExitCode::kUsage, "Tracy-Widom quantile: expected a probability in [0.01, 0.9999], got {}", p);
    const double logit = std::log(p / (1 - p));
    const auto above = std::upper_bound(kLogit.begin(), kLogit.end(), logit);
    const int first = std::clamp(static_cast<int>(above - kLogit.begin()) - kPoints / 2, 0,
                                 static_cast<int>(kLogit.size()) - kPoints);
    double s = 0;
    for (int i = first; i < first + kPoints; ++i) {
        double term = kFirst + kStep * i;
        for (int j = first; j < first + kPoints; ++j)
            if (j != i) term *= (logit - kLogit[j]) / (kLogit[i] - kLogit[j]);
        s += term;
    }
    return s;
}

}  // namespace pastur
