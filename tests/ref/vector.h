#pragma once
// Helpers of the references. Each reference is a naive function template over vectors. S = double gives
// values; S = std::complex<double> gives derivatives by the complex step, Im f(x + i h) / h. For the latter
// every operation must be analytic: compare real parts, and do not take absolute values or conjugates.
// Tensors are row-major, and their sizes are passed as arguments.
#include <complex>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pastur::ref {

using Complex = std::complex<double>;

inline double real_part(double x) {
    return x;
}
inline double real_part(const Complex& x) {
    return x.real();
}

/// Indexes a vector with a signed number, for loops over int64_t sizes.
template <class V>
auto& at(V& values, int64_t i) {
    return values[static_cast<size_t>(i)];
}

template <class S>
std::vector<S> zeros(int64_t count) {
    return std::vector<S>(static_cast<size_t>(count), S(0));
}

/// The numbers converted to S.
template <class S>
std::vector<S> lift(const std::vector<double>& values) {
    return std::vector<S>(values.begin(), values.end());
}

/// sum_i a_i b_i. Its derivative in the arguments of b is the backward pass with upstream gradient a.
template <class S>
S dot(const std::vector<double>& a, const std::vector<S>& b) {
    S sum(0);
    for (size_t i = 0; i < b.size(); ++i) sum += a[i] * b[i];
    return sum;
}

template <class S>
std::vector<S> add(const std::vector<S>& a, const std::vector<S>& b) {
    std::vector<S> out(a);
    for (size_t i = 0; i < b.size(); ++i) out[i] += b[i];
    return out;
}

/// Columns [begin, begin + length) of x [rows, width].
template <class S>
std::vector<S> slice_columns(const std::vector<S>& x, int64_t rows, int64_t width, int64_t begin,
                             int64_t length) {
    std::vector<S> out;
    out.reserve(static_cast<size_t>(rows * length));
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t c = 0; c < length; ++c) out.push_back(at(x, n * width + begin + c));
    return out;
}

/// [a | b]: the columns of a [rows, a_width], followed by those of b [rows, b_width].
template <class S>
std::vector<S> concat_columns(const std::vector<S>& a, int64_t a_width, const std::vector<S>& b,
                              int64_t b_width, int64_t rows) {
    std::vector<S> out;
    out.reserve(static_cast<size_t>(rows * (a_width + b_width)));
    for (int64_t n = 0; n < rows; ++n) {
        for (int64_t c = 0; c < a_width; ++c) out.push_back(at(a, n * a_width + c));
        for (int64_t c = 0; c < b_width; ++c) out.push_back(at(b, n * b_width + c));
    }
    return out;
}

}  // namespace pastur::ref
