// Tests of the test harness: every check must detect the errors it is for.
#include "tests/support/harness.h"

#include <gtest/gtest-spi.h>

#include <limits>

#include "tests/support/gradcheck.h"

namespace pastur::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Adds to one number of a 2 x 3 slice of rows of width 6, at offset `element` from the slice's first.
void add_at(int64_t element, Role role, DType dtype = DType::kF32) {
    Context& ctx = context(Device::kCpu);
    const std::vector<double> values(6, 1.0);
    const DeviceTensor tensor(ctx, dtype, columns({2, 3}, 1, 2), role, values);
    if (dtype == DType::kF32) tensor.view().data<float>()[element] += 1.0f;
    if (dtype == DType::kF64) tensor.view().data<double>()[element] += 1.0;
    if (dtype == DType::kBF16) {
        Bf16& number = tensor.view().data<Bf16>()[element];
        number = to_bf16(to_float(number) + 1.0f);
    }
}

TEST(Guards, NoticeAnythingChangedOutsideTheView) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
        for (int64_t stray : {-3, -1, 3, 4, 5, 9, 100}) {
            EXPECT_NONFATAL_FAILURE(add_at(stray, Role::kInOut, dtype), "guard zones");
            EXPECT_NONFATAL_FAILURE(add_at(stray, Role::kOutput, dtype), "guard zones");
        }
        for (int64_t inside : {0, 2, 6, 8}) add_at(inside, Role::kOutput, dtype);
        EXPECT_NONFATAL_FAILURE(add_at(6, Role::kInput, dtype), "an input");
    }
}

TEST(Guards, OutputsStartAsNaN) {
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF64}) {
        const DeviceTensor tensor(context(Device::kCpu), dtype, {5}, Role::kOutput);
        for (double x : tensor.values()) EXPECT_TRUE(std::isnan(x)) << name_of(dtype);
    }
}

bool agree(std::vector<double> got, std::vector<double> want, DType dtype = DType::kF32, double terms = 0) {
    const auto count = static_cast<int64_t>(got.size());
    return close_to(got, want, dtype, {count}, terms);
}

TEST(Comparison, MeasuresErrorsAgainstTheTensorsScale) {
    EXPECT_TRUE(agree({1, 2, 3}, {1, 2, 3}));
    EXPECT_TRUE(agree({1, 2, 3.00002}, {1, 2, 3}));
    EXPECT_FALSE(agree({1, 2, 3.0005}, {1, 2, 3}));
    EXPECT_TRUE(agree({1, 2, 3.0005}, {1, 2, 3}, DType::kBF16));
    EXPECT_FALSE(agree({1e-3, 1000}, {0, 1e-2})) << "a large wrong element does not widen the tolerance";
    EXPECT_FALSE(agree({1e-9}, {0}));
    EXPECT_TRUE(agree({1e-9}, {0}, DType::kF32, 1.0));
    // All elements have a small error of the same sign, within the bound per element but beyond the norm's.
    std::vector<double> want(1000, 1.0), got(1000, 1.0 + 5e-5);
    EXPECT_FALSE(agree(got, want));
}

TEST(Comparison, NonFiniteNumbersMustStandInTheSamePlaces) {
    EXPECT_TRUE(agree({1, kNaN, -kInfinity}, {1, kNaN, -kInfinity}));
    EXPECT_FALSE(agree({1, kNaN}, {1, 2}));
    EXPECT_FALSE(agree({1, 2}, {1, kNaN}));
    EXPECT_FALSE(agree({1, kInfinity}, {1, -kInfinity}));
    EXPECT_FALSE(agree({1, kInfinity}, {1, kNaN}));
    EXPECT_FALSE(same_values(std::vector{kNaN}, std::vector{0.0}, {1}));
    EXPECT_TRUE(same_values(std::vector{kNaN, 2.0}, std::vector{kNaN, 2.0}, {2}));
    EXPECT_FALSE(same_values(std::vector{1.0 + 1e-16, 2.0 + 1e-15}, std::vector{1.0, 2.0}, {2}));
}

TEST(Comparison, SaysWhatIsWrongAndWhere) {
    const auto result = close_to(std::vector{1.0, 2.0, 3.0, kNaN, 5.0, 6.0},
                                 std::vector{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, DType::kF32, {2, 3});
    const std::string text = result.message();
    EXPECT_NE(text.find("1 of 6"), std::string::npos) << text;
    EXPECT_NE(text.find("nan 1 (expected 0)"), std::string::npos) << text;
    EXPECT_NE(text.find("worst at [1, 0]"), std::string::npos) << text;
    EXPECT_NE(text.find("cosine"), std::string::npos) << text;
}

/// f(x, y) = sum_i x_i^3 exp(y_i), with gradients 3 x^2 e^y and x^3 e^y.
class GradientCheck : public ::testing::TestWithParam<int64_t> {
  protected:
    const std::vector<double> x_ = Random(1).normal(GetParam(), DType::kF32);
    const std::vector<double> y_ = Random(2).normal(GetParam(), DType::kF32);
    static constexpr auto kLoss = [](const ComplexArguments& a) {
        ref::Complex sum(0);
        for (size_t i = 0; i < a[0].size(); ++i) sum += a[0][i] * a[0][i] * a[0][i] * std::exp(a[1][i]);
        return sum;
    };
    bool accepts(const std::vector<double>& gradient, size_t which) const {
        return is_gradient(gradient, DType::kF32, {GetParam()}, kLoss, {x_, y_}, which);
    }
    std::vector<double> gradient(size_t which) const {
        std::vector<double> g(x_.size());
        for (size_t i = 0; i < g.size(); ++i)
            g[i] = which == 0 ? 3 * x_[i] * x_[i] * std::exp(y_[i]) : x_[i] * x_[i] * x_[i] * std::exp(y_[i]);
        return g;
    }
};

TEST_P(GradientCheck, AcceptsTheGradientAndNothingElse) {
    for (size_t which : {size_t{0}, size_t{1}}) {
        const std::vector<double> right = gradient(which);
        EXPECT_TRUE(accepts(right, which));
        std::vector<double> wrong(right);
        // An error in one element is found even if elements are only sampled.
        wrong[wrong.size() / 3] += root_mean_square(right);
        EXPECT_FALSE(accepts(wrong, which));
        wrong = right;
        for (double& g : wrong) g *= 1.001;
        EXPECT_FALSE(accepts(wrong, which));
        EXPECT_FALSE(accepts(std::vector<double>(right.size(), 0.0), which));
        wrong = right;
        wrong.back() = kNaN;
        EXPECT_FALSE(accepts(wrong, which));
    }
    EXPECT_FALSE(accepts(gradient(1), 0));
}

INSTANTIATE_TEST_SUITE_P(Harness, GradientCheck, ::testing::Values(1, 7, 700, 701, 5000),
                         [](const auto& info) { return fmt::format("n{}", info.param); });

}  // namespace
}  // namespace pastur::test
