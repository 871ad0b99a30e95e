#pragma once
// The leading left singular vectors of one matrix, on the calling thread.
#include "diag/cpu/dense_factors.h"
#include "diag/subspace.h"

namespace pastur::dense {

/// A symmetric matrix W W^T [n, n] with W^T W = M M^T, of a matrix M with d rows. W = root^T P; a matrix without rows is
/// the identity.
struct SymmetricForm {
    Matrix matrix;
    Matrix p;     ///< [n, d]
    Matrix root;  ///< [n, n]
};

/// The k leading left singular vectors of M: those W^T y, of length 1, of the eigenvectors y that leading_eigenvectors()
/// finds of the finite matrix.
Subspace leading_vectors(const SymmetricForm& form, int64_t k);

}  // namespace pastur::dense
