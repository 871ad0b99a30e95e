#pragma once
#include "kernels/fp8_rows.h"
#include "tests/support/harness.h"

namespace pastur::test {

/// Output rows for an op that quantises.
struct Fp8Output {
    DeviceTensor values, scales;
    Fp8Output(Context& ctx, int64_t rows, int64_t width)
        : values(ctx, DType::kF8E4M3, {rows, width}, Role::kOutput),
          scales(ctx, DType::kF32, Shape{rows}, Role::kOutput) {}
    operator Fp8Rows() const { return {values, scales}; }       // NOLINT
    operator ConstFp8Rows() const { return {values, scales}; }  // NOLINT
};

}  // namespace pastur::test
