#pragma once
// Checks gradients against the complex-step derivative of a scalar function of the references,
//     df/dx = Im f(x + i h) / h,  h = 1e-30,
// which is exact to rounding, because it subtracts nothing (Squire & Trapp, SIAM Review 40, 1998).
#include <algorithm>
#include <cmath>
#include <thread>

#include "tests/ref/vector.h"
#include "tests/support/harness.h"

namespace pastur::test {

using Arguments = std::vector<std::vector<double>>;
using ComplexArguments = std::vector<std::vector<ref::Complex>>;
inline constexpr double kComplexStep = 1e-30;

struct GradCheckOptions {
    int64_t exhaustive = 700;  ///< up to this size, every element is checked separately
    int64_t samples = 16;      ///< in larger tensors, so many single elements are checked
    int64_t windows = 16;      ///< and all elements together in so many contiguous windows
    double terms = 0;          ///< as in close_to
    double roundings = 1;      ///< of each element to its dtype; their errors add up as squares
};

/// The inner product <gradient of loss in arguments[which], direction>, by one evaluation of the loss.
template <class Loss>
double derivative_along(const Loss& loss, ComplexArguments& arguments, size_t which, int64_t begin,
                        const std::vector<double>& direction) {
    auto* x = &ref::at(arguments[which], begin);
    for (size_t i = 0; i < direction.size(); ++i) x[i].imag(kComplexStep * direction[i]);
    const double derivative = loss(std::as_const(arguments)).imag() / kComplexStep;
    for (size_t i = 0; i < direction.size(); ++i) x[i].imag(0);
    return derivative;
}

/// Runs work(i, arguments) for i in [0, count) on a few threads, each with its own copy of the arguments.
template <class Work>
void for_each_evaluation(int64_t count, const Arguments& arguments, const Work& work) {
    const int64_t workers = std::clamp<int64_t>(count / 8, 1, std::thread::hardware_concurrency());
    std::vector<std::jthread> pool;
    for (int64_t worker = 0; worker < workers; ++worker) {
        pool.emplace_back([&, worker] {
            ComplexArguments own;
            for (const auto& values : arguments) own.push_back(ref::lift<ref::Complex>(values));
            for (int64_t i = worker; i < count; i += workers) work(i, own);
        });
    }
}

/// The whole gradient, with one evaluation of the loss per element; for small tensors.
template <class Loss>
std::vector<double> complex_step_gradient(const Loss& loss, const Arguments& arguments, size_t which) {
    std::vector<double> gradient(arguments[which].size());
    for_each_evaluation(static_cast<int64_t>(gradient.size()), arguments,
                        [&](int64_t i, ComplexArguments& own) {
                            ref::at(gradient, i) = derivative_along(loss, own, which, i, {1.0});
                        });
    return gradient;
}

/// Compares single elements: all of them, or a sample that contains the first and the last.
template <class Loss>
::testing::AssertionResult elements_match(const Loss& loss, const Arguments& arguments, size_t which,
                                          const std::vector<double>& got, DType dtype, const Shape& shape,
                                          const GradCheckOptions& options) {
    const auto count = static_cast<int64_t>(got.size());
    const bool all = count <= options.exhaustive;
    std::vector<int64_t> elements;
    Random random(static_cast<uint64_t>(count));
    for (int64_t i = 0; i < (all ? count : options.samples); ++i)
        elements.push_back(all ? i : i == 0 ? 0 : i == 1 ? count - 1 : random.below(count));
    std::vector<double> want(elements.size()), sampled(elements.size());
    for_each_evaluation(
        static_cast<int64_t>(elements.size()), arguments, [&](int64_t i, ComplexArguments& own) {
            ref::at(want, i) = derivative_along(loss, own, which, ref::at(elements, i), {1.0});
        });
    for (size_t i = 0; i < elements.size(); ++i) sampled[i] = ref::at(got, elements[i]);
    // The sampled elements may all be small, so they do not estimate the tensor's scale.
    const double scale = std::max(options.terms, root_mean_square(got)) * std::sqrt(options.roundings);
    const double terms = all && options.roundings == 1 ? options.terms : scale;
    auto result =
        close_to(sampled, want, dtype, all ? shape : Shape{static_cast<int64_t>(sampled.size())}, terms);
    if (!result && !all) result << "\n  (elements sampled from " << to_string(shape) << ")";
    return result;
}

/// Compares the whole gradient in contiguous windows, each with its derivative along random signs. An error e
/// of the window appears as |<e, signs>|, which is about ||e||, so the tolerance of the norm applies. It is
/// widened four times, because <e, signs> is random.
template <class Loss>
::testing::AssertionResult windows_match(const Loss& loss, const Arguments& arguments, size_t which,
                                         const std::vector<double>& got, DType dtype,
                                         const GradCheckOptions& options) {
    const auto count = static_cast<int64_t>(got.size());
    const int64_t width = (count + options.windows - 1) / options.windows;
    const double scale = std::max(options.terms, root_mean_square(got));
    std::vector<std::string> failures(static_cast<size_t>(options.windows));
    for_each_evaluation(options.windows, arguments, [&](int64_t i, ComplexArguments& own) {
        const int64_t begin = std::min(i * width, count), end = std::min(begin + width, count);
        if (begin == end) return;
        Random random(static_cast<uint64_t>(i + 1));
        std::vector<double> signs;
        double projected = 0;
        for (int64_t j = begin; j < end; ++j) {
            signs.push_back(random.sign());
            projected += signs.back() * ref::at(got, j);
        }
        const double want = derivative_along(loss, own, which, begin, signs);
        const double allowed = 4 * tolerance(dtype).norm * scale *
                               std::sqrt(options.roundings * static_cast<double>(end - begin));
        if (!(std::abs(projected - want) <= allowed))
            ref::at(failures, i) = fmt::format(
                "\n  elements [{}, {}) along random signs: got {:.9g}, expected {:.9g}, "
                "difference {:.3g}, allowed {:.3g}",
                begin, end, projected, want, std::abs(projected - want), allowed);
    });
    std::string text;
    for (const std::string& failure : failures) text += failure;
    if (text.empty()) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << name_of(dtype) << " gradient is wrong in places:" << text;
}

/// Succeeds if `got` is the gradient of loss (ComplexArguments -> Complex) in arguments[which].
template <class Loss>
::testing::AssertionResult is_gradient(const std::vector<double>& got, DType dtype, const Shape& shape,
                                       const Loss& loss, const Arguments& arguments, size_t which,
                                       const GradCheckOptions& options = {}) {
    if (got.size() != arguments[which].size())
        return ::testing::AssertionFailure()
               << got.size() << " gradients of " << arguments[which].size() << " numbers";
    const auto elements = elements_match(loss, arguments, which, got, dtype, shape, options);
    if (!elements || static_cast<int64_t>(got.size()) <= options.exhaustive) return elements;
    return windows_match(loss, arguments, which, got, dtype, options);
}

template <class Loss>
::testing::AssertionResult is_gradient(const DeviceTensor& got, const Loss& loss, const Arguments& arguments,
                                       size_t which, const GradCheckOptions& options = {}) {
    return is_gradient(got.values(), got.dtype(), got.shape(), loss, arguments, which, options);
}

}  // namespace pastur::test
