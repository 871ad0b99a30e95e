#pragma once
// Device memory of the spectrum solver: what it takes, and where everything lies.
#include "diag/cuda/carver.h"
#include "diag/cuda/cholesky.h"
#include "diag/cuda/eigensolver.h"
#include "diag/spectrum.h"

namespace pastur {

/// Both of one stream.
struct DenseSolvers {
    explicit DenseSolvers(cudaStream_t stream)
        : cusolver(stream), cholesky(cusolver), eigensolver(cusolver) {}
    Cusolver cusolver;
    CholeskyRoots cholesky;
    Eigensolver eigensolver;
};

/// A factor's description on the device.
struct FactorTables {
    const float** sources;
    const float** gains;
    int32_t *slots, *stored;
    double *values, *moments;  ///< values of the copies worked on at once
};

/// Everything that solving one product takes.
struct SpectrumScratch {
    int64_t groups_at_once;  ///< of which factors, partial products and Grams fit beside each other
    std::vector<FactorTables> factors;
    double *left[2], *right[2];      ///< partial products
    double *p, *s, *root, *half;     ///< half: over s, of which only the root is needed then
    std::byte* cholesky;             ///< of so many
    double *matrices, *eigenvalues;  ///< of all items
    int32_t *flags, *infos;          ///< likewise
    std::byte* eigensolver;
    int64_t eigensolver_bytes;
    int64_t bytes;  ///< of it all

    /// In memory at `base`; null: to learn `bytes`.
    SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers);

  private:
    SpectrumScratch(std::byte* base, const FactorProduct& product, DenseSolvers& solvers,
                    int64_t groups_at_once);
    static int64_t fitting_groups(const FactorProduct& product, DenseSolvers& solvers);
};

}  // namespace pastur
