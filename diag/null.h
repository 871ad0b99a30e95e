#pragma once
// What a spectrum is compared with: the spectrum the same matrix would have, had it learned nothing.
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "diag/marchenko_pastur.h"
#include "diag/product_law.h"
#include "diag/product_sum_law.h"

namespace pastur {

/// All in units of eigenvalues of M M^T.
struct Null {
    std::string name;     ///< "mp", "product", "permuted" or "profile"
    int64_t count;        ///< eigenvalues that are not zero under the null
    double lambda_plus;   ///< beyond it an eigenvalue is an outlier: the largest one's quantile `tw_quantile`
    double lambda_minus;  ///< lower edge of the bulk
    double bulk_edge;     ///< upper edge of the bulk at infinite size: lambda_plus without its margin
    double sigma2;        ///< variance of an entry of M under the null; NaN where it is not known
    /// Distribution function of one of the `count` eigenvalues. Holds what it needs: a Null may be copied and
    /// kept.
    std::function<double(double)> cdf;
    std::vector<std::string> flags = {};  ///< names of kSpectrumFlags, for every record against this null
    /// Expected stable rank: the mean of the trace over the mean of the largest eigenvalue. Known for "product".
    double stable_rank = std::numeric_limits<double>::quiet_NaN();
};

/// M as if its entries were independent, with the variance that `estimate` finds in its spectrum; flagged
/// "below_half_rank" where a robust estimate rests on fewer than half of the law's eigenvalues.
Null mp_null(std::span<const double> eigenvalues, int64_t rows, int64_t cols, VarianceEstimate estimate,
             double tw_quantile);
/// M as if its entries were independent. On a product of Gaussian factors this null is wrong: its edge lies
/// inside the bulk (768.768.768: 4 of 6.75), which is what the product null is for.
Null mp_null(const MarchenkoPastur& law, double tw_quantile);

/// M as the product of its factors with independent Gaussian entries.
Null product_null(const ProductLaw& law, double tw_quantile);

/// M as a sum of such products. The name is "product" too: it is the same null, of a matrix that is made so.
Null product_null(const ProductSumLaw& law, double tw_quantile);

/// M as the product of its factors with their entries drawn (FactorDraw): shuffled ("permuted") or Gaussian of their
/// profile ("profile"). `spectra` has one descending spectrum per draw, all of one length n >= 1. The null's law is all draws' eigenvalues together; lambda_plus
/// is the draws' mean largest eigenvalue moved by the edge's scale from the Tracy-Widom mean to its quantile.
/// The scale is what fits the spacing of the first eigenvalues, averaged over the draws: the k-th lies (3 pi
/// (k - 3/4) / 2)^(2/3) scales below the edge (the zeros of the Airy process' mean counting function, beta =
/// 1), the first 1.2065. For n = 1, where there is no spacing, lambda_plus is the largest draw.
/// entry_variance: of M under the null, if known.
Null drawn_null(const char* name, std::span<const std::vector<double>> spectra, double tw_quantile,
                double entry_variance);

}  // namespace pastur
