#pragma once
// Products of batches of fp64 matrices by cuBLAS.
#include <cublas_v2.h>

#include <cstdint>
#include <vector>

#include "kernels/base/memory.h"
#include "kernels/cuda/handles.h"

namespace pastur {

/// The items that are processed at once: `groups` groups of `group` items each.
struct Extent {
    int64_t groups, group;
    int64_t items() const { return groups * group; }
};

/// Row-major doubles [rows, columns], one matrix per item or, when `shared`, per group. op() of them is the
/// transpose when `transposed`. Without data: the identity, where a function says so.
struct Batch {
    double* data = nullptr;
    int64_t rows = 0, columns = 0;
    bool shared = false, transposed = false;

    int64_t op_rows() const { return transposed ? columns : rows; }
    int64_t op_columns() const { return transposed ? rows : columns; }
    Batch transpose() const { return {data, rows, columns, shared, !transposed}; }
    int64_t stride() const { return shared ? 0 : rows * columns; }  ///< from item to item of a group
    Batch of_group(int64_t index, int64_t group) const {
        return {data + index * (shared ? 1 : group) * rows * columns, rows, columns, shared, transposed};
    }
};

/// A cuBLAS handle with its own workspace on one stream, so that its bits do not depend on other handles.
class BatchedProducts {
  public:
    static constexpr int64_t kWorkspaceBytes = int64_t{32}
                                               << 20;  // NVIDIA's recommendation per stream on Hopper

    /// `stream` belongs to ctx's device, which is current. Throws (kNoDevice).
    BatchedProducts(CudaContext& ctx, cudaStream_t stream);
    ~BatchedProducts();
    BatchedProducts(const BatchedProducts&) = delete;
    BatchedProducts& operator=(const BatchedProducts&) = delete;

    /// c = op(a) op(b) for every item.
    Batch multiply(double* c, const Batch& a, const Batch& b, const Extent& extent) const;
    /// c = op(a) op(a)^T.
    Batch gram(double* c, const Batch& a, const Extent& extent) const {
        return multiply(c, a, a.transpose(), extent);
    }
    /// The product of the factors, from the left, in two buffers that alternate; a single factor itself.
    Batch multiply_chain(const std::vector<Batch>& factors, double* const (&partial)[2],
                         const Extent& extent) const;

  private:
    void multiply_strided(const Batch& c, const Batch& a, const Batch& b, int64_t count) const;

    cublasHandle_t blas_ = nullptr;
    Buffer workspace_;
};

}  // namespace pastur
