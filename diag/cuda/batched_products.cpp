#include "diag/cuda/batched_products.h"

#include "kernels/cuda/check.h"

namespace pastur {

BatchedProducts::BatchedProducts(CudaContext& ctx, cudaStream_t stream) {
    CUBLAS_CHECK(cublasCreate(&blas_));
    CUBLAS_CHECK(cublasSetStream(blas_, stream));
    workspace_ = allocate(ctx, kWorkspaceBytes);
    CUBLAS_CHECK(cublasSetWorkspace(blas_, workspace_.data(), static_cast<size_t>(kWorkspaceBytes)));
}

BatchedProducts::~BatchedProducts() {
    if (blas_) CUBLAS_CHECK_LOG(cublasDestroy(blas_));
}

Batch BatchedProducts::multiply(double* c, const Batch& a, const Batch& b, const Extent& extent) const {
    const Batch out{c, a.op_rows(), b.op_columns()};
    // Where a factor is shared, one stride cannot lead both from item to item and from group to group.
    const bool by_group = a.shared || b.shared;
    for (int64_t i = 0; i < (by_group ? extent.groups : 1); ++i)
        multiply_strided(out.of_group(i, extent.group), a.of_group(i, extent.group),
                         b.of_group(i, extent.group), by_group ? extent.group : extent.items());
    return out;
}

Batch BatchedProducts::multiply_chain(const std::vector<Batch>& factors, double* const (&partial)[2],
                                      const Extent& extent) const {
    Batch product = factors[0];
    for (size_t i = 1; i < factors.size(); ++i)
        product = multiply(partial[i % 2], product, factors[i], extent);
    return product;
}

/// To cuBLAS, which is column-major, it is c^T = op(b)^T op(a)^T.
void BatchedProducts::multiply_strided(const Batch& c, const Batch& a, const Batch& b, int64_t count) const {
    const double one = 1, zero = 0;
    CUBLAS_CHECK(cublasDgemmStridedBatched(
        blas_, b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N, a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
        static_cast<int>(c.columns), static_cast<int>(c.rows), static_cast<int>(a.op_columns()), &one, b.data,
        static_cast<int>(b.columns), b.stride(), a.data, static_cast<int>(a.columns), a.stride(), &zero,
        c.data, static_cast<int>(c.columns), c.stride(), static_cast<int>(count)));
}

}  // namespace pastur
