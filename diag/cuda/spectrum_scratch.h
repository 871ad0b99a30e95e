#pragma once
// Device memory of the spectrum solver: its size and its layout.
#include "diag/cuda/carver.h"
#include "diag/cuda/cholesky.h"
#include "diag/cuda/eigensolver.h"
#include "diag/cuda/subspace_blocks.h"
#include "diag/spectrum.h"

namespace pastur {

/// The dense solvers, on one stream.
struct DenseSolvers {
    DenseSolvers(cudaStream_t stream, const SolverOptions& options)
        : cusolver(stream), cholesky(cusolver), eigensolver(cusolver, options.own_kernels) {}
    Cusolver cusolver;
    CholeskyRoots cholesky;
    SymmetricEigensolver eigensolver;
};

/// A factor's description on the device.
struct FactorTables {
    const float** sources;
    const float** gains;
    RotatedRows* rotations;
    const float** row_gains;
    int32_t *slots, *stored;
    double *values, *moments;  ///< `values`: of the copies that are processed at once
    double* profile;           ///< of these copies, for draw_from_profile()
};

/// The blocks of `items` items of a product that asks for leading vectors.
BlockShape block_shape(const FactorProduct& product, int64_t items);

/// The scratch memory of solving one product.
struct SpectrumScratch {
    int64_t groups_at_once;  ///< groups whose factors, partial products and Grams are held at once
    std::vector<FactorTables> factors;
    double *left[2], *right[2];      ///< partial products
    double *p, *s, *root, *half;     ///< `half` overlays s, which is dead once its root is known
    std::byte* cholesky;             ///< workspace for the items of groups_at_once
    double *matrices, *eigenvalues;  ///< of all items
    int32_t *flags, *infos;          ///< of all items
    SubspaceScratch subspaces;  ///< for the items of groups_at_once, if the product asks for leading vectors
    std::byte* eigensolver;
    int64_t eigensolver_bytes;
    int64_t bytes;  ///< in total

    /// Lays everything out at `base`; a null base only computes `bytes`.
    SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers);

  private:
    SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers,
                    int64_t groups_at_once);
    static int64_t fitting_groups(const FactorProduct& product, DenseSolvers& solvers);
};

}  // namespace pastur
