#pragma once
// When two tensors agree, and what to say when they do not.
#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "kernels/base/tensor.h"

namespace pastur::test {

/// Allowed error of results in a dtype, by two measures.
///
/// element: |got - want| <= element * max(|want|, rms(want)) for every element. The scale is the tensor's
/// root mean
///     square, not its maximum, because rounding errors of sums are proportional to the terms' size, which
///     the rms estimates; a maximum would let one large element excuse errors everywhere else.
/// norm: ||got - want|| <= norm * ||want||. Rounding errors are independent, so their norm stays well below
/// the
///     largest one; an error of a whole row, a mask or a scale factor is systematic and shows here first.
struct Tolerance {
    double element;
    double norm;
};

/// The one table.
///     f32:  ulp 6e-8; sums of up to a few thousand terms in any order stay near 1e-6, and TF32 or bf16
///     products
///           by mistake give 3e-4 and more.
///     bf16: half an ulp is 2e-3 (2^-9), and an attention gradient passes about three such roundings (P, dS,
///     the
///           result), some of terms larger than their difference.
///     f64:  sums accumulated in double, of exact products.
/// Copies, conversions and maxima are not in the table: they are exact (same_values).
Tolerance tolerance(DType dtype);

/// `terms` is the size of the terms the tensor is summed from, where they may cancel: the scale is never
/// taken below it. (Over a single key the attention gradient of a query is exactly 0, its terms are not.) NaN
/// and infinities must stand in the same places on both sides.
::testing::AssertionResult close_to(std::span<const double> got, std::span<const double> want, DType dtype,
                                    const Shape& shape, double terms = 0);

/// Equal, element by element; NaN equals NaN.
::testing::AssertionResult same_values(std::span<const double> got, std::span<const double> want,
                                       const Shape& shape);

/// Root mean square of the finite elements.
double root_mean_square(std::span<const double> values);

}  // namespace pastur::test
