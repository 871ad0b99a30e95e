#pragma once
// Subspace iteration on CUDA: cuBLAS multiplies, own kernels do the rest, and the host diagonalises the small forms.
#include "diag/cuda/batched_products.h"
#include "diag/cuda/carver.h"
#include "diag/subspace_iteration.h"

namespace pastur {

/// Device memory of the blocks of `items` operators P^T G P with P [n, width].
struct SubspaceScratch {
    double *x = nullptr, *image = nullptr, *other = nullptr;  ///< [items, rows, width]
    double* inner[2] = {};                                    ///< [items, rows, n]
    double* forms = nullptr;                                  ///< [items, rows, rows]
    double *values = nullptr, *norms = nullptr;               ///< [items, rows]
    FilterStep* steps = nullptr;                              ///< [kFilterSteps, items]

    SubspaceScratch() = default;
    SubspaceScratch(Carver& carver, const BlockShape& shape, int64_t n);
};

/// P and G of every item; without data: the identity.
struct SplitForms {
    Batch p, g;
};

class CudaSubspaceBlocks final : public SubspaceBlocks {
  public:
    /// Everything outlives this object. extent.items() == shape.items.
    CudaSubspaceBlocks(cudaStream_t stream, const BatchedProducts& products, const SplitForms& forms,
                       const SubspaceScratch& scratch, const Extent& extent, const BlockShape& shape)
        : SubspaceBlocks(shape),
          stream_(stream),
          products_(products),
          forms_(forms),
          scratch_(scratch),
          extent_(extent) {}

    void start(const std::vector<double>& block) override;
    void orthonormalise() override;
    std::vector<double> project() override;
    std::vector<double> rotate(const std::vector<double>& rotations,
                               const std::vector<double>& values) override;
    void filter(const std::vector<FilterStep>& steps) override;
    std::vector<double> read() override;

  private:
    Batch block(double* data) const { return {data, shape().rows, shape().width}; }
    /// to = from A.
    void apply(double* to, double* from) const;
    template <typename T>
    void send(T* to, const std::vector<T>& from) const;
    std::vector<double> fetch(const double* from, int64_t count) const;

    cudaStream_t stream_;
    const BatchedProducts& products_;
    SplitForms forms_;
    SubspaceScratch scratch_;  ///< the blocks change places
    Extent extent_;
};

}  // namespace pastur
