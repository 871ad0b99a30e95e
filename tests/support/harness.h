#pragma once
// Runs each op test on every available backend, in every dtype in which that backend computes:
//
//     struct NormShape { int64_t rows, width; std::string name() const; };
//     class RmsNorm : public OpTest<NormShape> {};
//     TEST_P(RmsNorm, ForwardMatchesReference) { ... ctx(), dtype(), shape(), input(...), output(...) ... }
//     INSTANTIATE_TEST_SUITE_P(Ops, RmsNorm, every_target<NormShape>({{1, 1}, {7, 129}}),
//                              case_name<NormShape>);
//
// This makes the tests Ops/RmsNorm.ForwardMatchesReference/cpu_f32_N7_C129 and, with a GPU,
// .../cuda_f32_N7_C129 and .../cuda_bf16_N7_C129. The inputs of a test are already rounded to dtype();
// results are compared with a reference in double.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/poison.h"

namespace pastur::test {

/// The device and precision of a test case.
struct Target {
    Device device;
    DType dtype;
};
std::string to_string(const Target& target);
/// cpu_f32 and, with a usable CUDA device, cuda_f32 and cuda_bf16.
std::vector<Target> all_targets();
/// cpu_f32 and, with a usable CUDA device, cuda_f32: for ops whose dtypes are fixed.
std::vector<Target> f32_targets();

/// The only context of the device in this process.
Context& context(Device device);

/// Reproducible numbers, already rounded to a dtype.
class Random {
  public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    /// Seeds with the running test's name, so every case has different numbers.
    Random();
    std::vector<double> normal(int64_t count, DType dtype, double stddev = 1, double mean = 0);
    int64_t below(int64_t limit) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(limit)); }
    std::vector<int32_t> ids(int64_t count, int64_t limit);
    /// +1 or -1.
    double sign() { return engine_() & 1 ? 1.0 : -1.0; }

  private:
    std::mt19937_64 engine_;
};

/// A NaN as arithmetic makes it and NaNs with payload bits, as damaged files may hold. All must stay NaN.
std::vector<double> kinds_of_nan();

/// Access to a case's target for test bodies.
class OnTarget {
  public:
    explicit OnTarget(const Target& target) : target_(target) {}

  protected:
    Context& ctx() const { return context(target_.device); }
    DType dtype() const { return target_.dtype; }
    bool on_cuda() const { return target_.device == Device::kCuda; }

    DeviceTensor input(const std::vector<double>& values, const Layout& layout) const;
    DeviceTensor input(const std::vector<double>& values, const Layout& layout, DType dtype) const;
    DeviceTensor input(const std::vector<int32_t>& ids) const;
    DeviceTensor output(const Layout& layout) const;
    DeviceTensor output(const Layout& layout, DType dtype) const;
    DeviceTensor in_out(const std::vector<double>& values, const Layout& layout) const;
    DeviceTensor in_out(const std::vector<double>& values, const Layout& layout, DType dtype) const;
    std::vector<double> normal(int64_t count, double stddev = 1) {
        return random_.normal(count, dtype(), stddev);
    }

    /// Scratch of exactly this size, filled with NaN.
    void reserve(int64_t bytes) const;

    Random random_;

  private:
    Target target_;
};

template <class S>
struct Case {
    Target target;
    S shape;
};

template <class S>
class OpTest : public ::testing::TestWithParam<Case<S>>, public OnTarget {
  protected:
    OpTest() : OnTarget(::testing::TestWithParam<Case<S>>::GetParam().target) {}
    const S& shape() const { return ::testing::TestWithParam<Case<S>>::GetParam().shape; }
};

template <class S>
std::vector<Case<S>> cases_on(const std::vector<Target>& targets, const std::vector<S>& shapes) {
    std::vector<Case<S>> cases;
    for (const Target& target : targets)
        for (const S& shape : shapes) cases.push_back({target, shape});
    return cases;
}

template <class S>
auto every_target(const std::vector<S>& shapes) {
    return ::testing::ValuesIn(cases_on(all_targets(), shapes));
}

template <class S>
auto every_backend(const std::vector<S>& shapes) {
    return ::testing::ValuesIn(cases_on(f32_targets(), shapes));
}

template <class S>
std::string case_name(const ::testing::TestParamInfo<Case<S>>& info) {
    return fmt::format("{}_{}", to_string(info.param.target), info.param.shape.name());
}

/// The name of a case in GoogleTest's reports.
template <class S>
void PrintTo(const Case<S>& value, std::ostream* out) {
    *out << to_string(value.target) << " " << value.shape.name();
}

::testing::AssertionResult close_to(const DeviceTensor& got, const std::vector<double>& want,
                                    double terms = 0);
::testing::AssertionResult same_values(const DeviceTensor& got, const std::vector<double>& want);
/// Succeeds if both hold the same bits, e.g. the results of two runs of a deterministic op.
::testing::AssertionResult same_bits(const DeviceTensor& a, const DeviceTensor& b);

}  // namespace pastur::test
