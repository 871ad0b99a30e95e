#pragma once
// Comparison of tensors, with a report of how they differ.
#include <gtest/gtest.h>

#include <span>
#include <vector>

#include "kernels/base/tensor.h"

namespace pastur::test {

/// Allowed error of results in a dtype, by two criteria.
///
/// element: |got - want| <= element * max(|want|, rms(want)) for every element. The scale is the tensor's
///     root mean square, because rounding errors of sums are proportional to the size of the terms, which the
///     root mean square estimates. With the maximum as scale, one large element would allow errors in others.
/// norm: ||got - want|| <= norm * ||want||. Rounding errors are independent, so their norm stays well below
///     the largest. An error of a whole row, a mask or a scale factor is systematic and exceeds this first.
struct Tolerance {
    double element;
    double norm;
};

/// The tolerance of every dtype.
///     f32:  an ulp is 6e-8. Sums of up to a few thousand terms in any order stay near 1e-6; GEMMs in TF32 or
///           bf16 by mistake give 3e-4 and more.
///     bf16: half an ulp is 2e-3 (2^-9). An attention gradient passes about three such roundings (P, dS and
///           the result), some of them of terms that are larger than their difference.
///     f64:  sums of exact products, accumulated in double.
/// Copies, conversions and maxima have no tolerance, because they are exact: see same_values.
Tolerance tolerance(DType dtype);

/// `terms` is a lower bound of the scale: the size of the terms that the tensor is summed from, where they
/// may cancel. (With a single key, the attention gradient of a query is exactly 0, but its terms are not.)
/// NaN and infinities must be in the same places in both.
::testing::AssertionResult close_to(std::span<const double> got, std::span<const double> want, DType dtype,
                                    const Shape& shape, double terms = 0);

/// Succeeds if all elements are equal; NaN equals NaN.
::testing::AssertionResult same_values(std::span<const double> got, std::span<const double> want,
                                       const Shape& shape);

/// Root mean square of the finite elements.
double root_mean_square(std::span<const double> values);

}  // namespace pastur::test
