#pragma once
// Rows of e4m3 numbers, each with a scale: what products in fp8 (fp8.h) read.
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
    bool empty() const { return values.empty(); }  ///< default-constructed: for optional arguments
    int64_t rows() const { return values.size(0); }
    int64_t width() const { return values.size(1); }
    /// To read them, as Tensor converts to ConstTensor.
    template <typename Other>
    requires(std::is_convertible_v<View, Other>) operator Fp8RowsOf<Other>() const {  // NOLINT
        return {values, scales};
    }
};
using Fp8Rows = Fp8RowsOf<Tensor>;
using ConstFp8Rows = Fp8RowsOf<ConstTensor>;

/// Bytes of such rows, each tensor on a boundary of its own.
constexpr int64_t fp8_rows_bytes(int64_t rows, int64_t width) {
    return align_up(rows * width) + align_up(rows * size_of(DType::kF32));
}

/// Whether they are such rows, of this shape.
bool is_fp8_rows(const ConstFp8Rows& rows, const Shape& shape);
std::string describe(const ConstFp8Rows& rows);
/// Throws where an op is to round `of` into rows of another shape; empty ones are none.
void check_rounded(const char* op, const Fp8Rows& rounded, const ConstTensor& of);

}  // namespace pastur
