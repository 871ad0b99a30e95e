#pragma once
// Rows of e4m3 numbers with one scale per row: the operands of fp8 GEMMs (fp8.h).
#include <string>
#include <type_traits>

#include "kernels/base/memory.h"
#include "kernels/base/tensor.h"

namespace pastur {

/// x[n, i] = values[n, i] scales[n].
template <typename View>
struct Fp8RowsOf {
    View values;                                   ///< f8e4m3 [N, I], contiguous
    View scales;                                   ///< f32 [N]
    bool empty() const { return values.empty(); }  ///< true when default-constructed: an omitted argument
    int64_t rows() const { return values.size(0); }
    int64_t width() const { return values.size(1); }
    /// Writable rows convert to read-only ones, as Tensor converts to ConstTensor.
    template <typename Other>
    requires(std::is_convertible_v<View, Other>) operator Fp8RowsOf<Other>() const {  // NOLINT
        return {values, scales};
    }
};
using Fp8Rows = Fp8RowsOf<Tensor>;
using ConstFp8Rows = Fp8RowsOf<ConstTensor>;

/// Bytes of quantised [rows, width] in an arena: each of the two tensors is aligned.
constexpr int64_t fp8_rows_bytes(int64_t rows, int64_t width) {
    return align_up(rows * width) + align_up(rows * size_of(DType::kF32));
}

/// Whether `rows` has this shape, and the dtypes and layout that Fp8RowsOf states.
bool is_fp8_rows(const ConstFp8Rows& rows, const Shape& shape);
std::string describe(const ConstFp8Rows& rows);
/// Throws unless `quantized`, an output of `op`, is empty or has the shape of x, whose numbers it receives.
void check_quantized(const char* op, const Fp8Rows& quantized, const ConstTensor& x);

}  // namespace pastur
