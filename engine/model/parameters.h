#pragma once
// The trained numbers: master weights in fp32 or bf16, fp32 gradients, and the copies that kernels compute
// with.
#include "engine/config/choices.h"
#include "engine/model/fp8_weights.h"
#include "engine/model/param_table.h"
#include "kernels/base/context.h"

namespace pastur {

/// How numbers of this format are stored.
inline DType dtype_of(StateFormat format) {
    return format == StateFormat::kFp32 ? DType::kF32 : DType::kBF16;
}
inline DType dtype_of(CommDtype format) {
    return format == CommDtype::kFp32 ? DType::kF32 : DType::kBF16;
}

class Parameters {
  public:
    /// fp8: the rules of Fp8Weights.
    explicit Parameters(DType compute_dtype, std::optional<Fp8Rules> fp8 = {},
                        DType master_dtype = DType::kF32)
        : compute_dtype_(compute_dtype), master_dtype_(master_dtype), fp8_(fp8) {}
    DType compute_dtype() const { return compute_dtype_; }
    DType master_dtype() const { return master_dtype_; }
    /// Filled while the model is built, which ends with its layout.
    ParamTable& table() { return table_; }
    const ParamTable& table() const { return table_; }
    /// Allows the GEMMs of a matrix of the table to be in fp8; returns its number in fp8().
    size_t offer_to_fp8(GroupId id);
    const Fp8Weights& fp8() const { return fp8_; }

    /// Bytes of the buffers that allocate() takes.
    int64_t master_bytes() const { return table_.total_elements() * size_of(master_dtype_); }
    int64_t grad_bytes() const { return table_.total_elements() * size_of(DType::kF32); }
    /// Of the copies that kernels read: matrices unless their masters have the compute dtype, and vectors
    /// unless their masters are in fp32.
    int64_t compute_bytes() const { return matrix_copy_bytes() + vector_copy_bytes(); }
    /// with_gradients = false: for evaluation only.
    void allocate(Context& ctx, bool with_gradients);
    /// Reads the numbers of `owner`, of the same model, which is allocated and outlives this object. Takes no memory
    /// and has no gradients.
    void share(const Parameters& owner);

    /// What kernels read: matrices in the compute dtype, vectors in fp32.
    Tensor value(GroupId id) const;
    /// fp32, of the shape of value(id).
    Tensor grad(GroupId id) const;

    /// Master weight (master dtype) and gradient (fp32) of one named tensor, without padding: rows may be
    /// strided.
    Tensor master(const Param& param) const;
    Tensor grad(const Param& param) const;
    /// values f32, contiguous, in the tensor's shape: the master weight.
    void read_master(Context& ctx, Tensor values, const Param& param) const;

    Tensor flat_master() const;  ///< [total]
    Tensor flat_grad() const;    ///< f32 [total]
    /// Compute dtype [matrix elements]; empty if kernels read the masters.
    Tensor flat_compute() const;
    /// The copies of the vectors that kernels read, f32 [total - matrix elements]; empty if they read the
    /// masters.
    Tensor flat_vectors() const;

    /// Matrices N(0, 0.02^2), keyed by (seed, name), so variants share the weights they have in common;
    /// vectors Param::initial. Both backends draw the same numbers.
    void initialise(Context& ctx, uint64_t seed);
    /// Sets all compute copies from the master weights; after the masters were loaded or initialised.
    void refresh_compute(Context& ctx);
    /// Sets the fp8 copies from value(); after an update has written value().
    void refresh_fp8(Context& ctx);

  private:
    int64_t vector_elements() const { return table_.total_elements() - table_.matrix_elements(); }
    int64_t matrix_copy_bytes() const;
    int64_t vector_copy_bytes() const;
    Tensor view(const Buffer& buffer, DType dtype, int64_t offset, const Shape& shape) const;
    void draw(Context& ctx, const Param& param, uint64_t seed);
    ParamTable table_;
    DType compute_dtype_, master_dtype_;
    Fp8Weights fp8_;
    std::vector<GroupId> fp8_groups_;  ///< by their numbers in fp8_
    Buffer master_, grad_, compute_;
};

}  // namespace pastur
