#pragma once
// The leading left singular vectors of one matrix, on the calling thread.
#include "diag/cpu/dense_factors.h"
#include "diag/subspace.h"

namespace pastur::dense {

/// M M^T = P^T G P of a matrix M with d rows.
struct SplitForm {
    Matrix p;  ///< [n, d]; empty: the identity
    Matrix g;  ///< [n, n], symmetric; empty: the identity
};

/// The k leading eigenvectors of a finite form, as leading_eigenvectors() finds them.
Subspace leading_vectors(const SplitForm& form, int64_t k);

}  // namespace pastur::dense
