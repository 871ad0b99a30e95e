// Moments and master weights in bf16: unbiased where they are rounded stochastically, with bits that depend
// on nothing but the key.
#include "kernels/optimizer/stochastic_rounding.h"

#include <cmath>
#include <limits>
#include <set>

#include "kernels/optimizer/adamw.h"
#include "tests/ref/adamw.h"
#include "tests/support/harness.h"

namespace pastur::test {
namespace {

float rounded_value(float value, uint32_t random16) {
    return to_float(Bf16{round_stochastically(value, random16)});
}

TEST(StochasticRounding, HasTheProbabilitiesOfInterpolation) {
    for (const float value : {1.00123f, -3.14159f, 1e-30f, 6.5e30f, 0x1.fep0f + 0x1p-9f, 1e-39f}) {
        double sum = 0;
        std::set<float> seen;
        for (uint32_t random = 0; random < 0x10000u; ++random) {
            const float result = rounded_value(value, random);
            seen.insert(result);
            sum += result;
        }
        EXPECT_LE(seen.size(), 2u);
        EXPECT_LE(*seen.begin(), value);
        EXPECT_GE(*seen.rbegin(), value);
        EXPECT_EQ(sum / 0x10000, static_cast<double>(value)) << "the mean of all draws is exact";
    }
}

TEST(StochasticRounding, KeepsWhatBf16HoldsAndNan) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (const uint32_t random : {0u, 1u, 0x8000u, 0xffffu}) {
        for (const float value : {0.0f, -0.0f, 1.0f, -1.5f, 0x1p-133f, 0x1.fep127f, kInfinity, -kInfinity})
            EXPECT_EQ(std::bit_cast<uint32_t>(rounded_value(value, random)), std::bit_cast<uint32_t>(value));
        for (const double nan : kinds_of_nan())
            EXPECT_TRUE(std::isnan(rounded_value(static_cast<float>(nan), random)));
    }
}

TEST(StochasticRounding, DrawsUniformBitsThatDifferByKey) {
    constexpr int kBlocks = 1 << 14;
    double sum = 0, products = 0;
    std::set<PhiloxBlock> blocks;
    for (int64_t block = 0; block < kBlocks; ++block) {
        const PhiloxBlock m = rounding_bits(3, 7, RoundedNumber::kFirstMoment, block),
                          v = rounding_bits(3, 7, RoundedNumber::kSecondMoment, block);
        for (int lane = 0; lane < kElementsPerBlock; ++lane) {
            const double x = bits_of_lane(m, lane) / 65536.0 - 0.5, y = bits_of_lane(v, lane) / 65536.0 - 0.5;
            sum += x;
            products += x * y;
        }
        for (const PhiloxBlock& bits : {m, v, rounding_bits(3, 7, RoundedNumber::kParam, block),
                                        rounding_bits(3, 8, RoundedNumber::kFirstMoment, block),
                                        rounding_bits(4, 7, RoundedNumber::kFirstMoment, block)})
            blocks.insert(bits);
    }
    EXPECT_EQ(blocks.size(), 5u * kBlocks);
    constexpr double kDraws = kBlocks * kElementsPerBlock;
    EXPECT_LT(std::abs(sum / kDraws), 5 * std::sqrt(1.0 / 12 / kDraws));
    EXPECT_LT(std::abs(products / kDraws), 5 * (1.0 / 12) / std::sqrt(kDraws));
}

struct RoundedShape {
    int64_t count;
    Bf16Rounding rounding;
    bool param_too;
    std::string name() const {
        return fmt::format("n{}_{}_{}", count, rounding == Bf16Rounding::kNearest ? "nearest" : "stochastic",
                           param_too ? "all" : "moments");
    }
};

std::vector<RoundedShape> rounded_shapes() {
    std::vector<RoundedShape> shapes;
    for (const int64_t count : {1, 7, 8, 257, 4099})
        for (const Bf16Rounding rounding : {Bf16Rounding::kNearest, Bf16Rounding::kStochastic})
            for (const bool param_too : {false, true}) shapes.push_back({count, rounding, param_too});
    return shapes;
}

/// Betas of 1/2 and numbers of few bits, so new moments are exact in fp32 on every backend.
class AdamwInBf16 : public OpTest<RoundedShape> {
  protected:
    static constexpr int64_t kFirstElement = 24, kStep = 5;
    const int64_t count_ = shape().count;
    const DType weight_dtype_ = shape().param_too ? DType::kBF16 : DType::kF32;
    const std::vector<double> param_ = numbers(0.25), m_ = numbers(0.125), v_ = positive(),
                              grad_ = numbers(0.00390625);

    std::vector<double> numbers(double scale) {
        std::vector<double> values(static_cast<size_t>(count_));
        for (double& x : values) x = scale * static_cast<double>(random_.below(255) - 127) / 128;
        return values;
    }
    std::vector<double> positive() {
        std::vector<double> values = numbers(1);
        for (double& x : values) x = std::abs(x) + 0.0078125;
        return values;
    }
    AdamwParams params(int64_t first) const {
        AdamwParams params{0.125f, 0.5f, 0.5f, 1e-8f, 0.5f, kStep, 0};
        params.rounding = {shape().rounding, shape().rounding, 11, kFirstElement + first};
        return params;
    }
    struct Tensors {
        DeviceTensor param, m, v, compute;
    };
    Tensors tensors() const {
        return {in_out(param_, {count_}, weight_dtype_), in_out(m_, {count_}, DType::kBF16),
                in_out(v_, {count_}, DType::kBF16),
                output({count_}, shape().param_too ? DType::kF32 : DType::kBF16)};
    }
    /// Updates elements [first, first + count).
    void step(const Tensors& t, int64_t first, int64_t count) const {
        const auto grad = input(grad_, {count_}), sums = input({1.0}, {1}, DType::kF64);
        const auto part = [&](const Tensor& x) { return x.slice(0, first, count); };
        adamw_step(ctx(), part(t.param), part(t.m), part(t.v), part(t.compute), part(grad.view()), sums,
                   params(first));
    }
    /// What is stored for exact values.
    std::vector<double> stored(const std::vector<double>& exact, RoundedNumber number) const {
        std::vector<double> values(exact.size());
        for (int64_t i = 0; i < count_; ++i) {
            const auto value = static_cast<float>(ref::at(exact, i));
            const int64_t element = kFirstElement + i;
            const PhiloxBlock bits = rounding_bits(11, kStep, number, element / kElementsPerBlock);
            ref::at(values, i) =
                shape().rounding == Bf16Rounding::kNearest
                    ? to_float(to_bf16(value))
                    : rounded_value(value, bits_of_lane(bits, static_cast<int>(element % 8)));
        }
        return values;
    }
};

TEST_P(AdamwInBf16, StoresTheExactMomentsRounded) {
    const Tensors t = tensors();
    step(t, 0, count_);
    ref::AdamwState want{param_, m_, v_};
    ref::adamw(want, grad_, 1.0, {0.125, 0.5, 0.5, 1e-8, 0.5, 0, kStep});
    EXPECT_TRUE(same_values(t.m, stored(want.m, RoundedNumber::kFirstMoment)));
    EXPECT_TRUE(same_values(t.v, stored(want.v, RoundedNumber::kSecondMoment)));
    if (!shape().param_too) {
        EXPECT_TRUE(close_to(t.param, want.param)) << "from moments that are not rounded yet";
        return;
    }
    const std::vector<double> param = t.param.values();
    EXPECT_TRUE(same_values(t.compute, param)) << "exact";
    for (int64_t i = 0; i < count_; ++i) {  // one of the two neighbours
        const double exact = ref::at(want.param, i), ulp = std::exp2(std::ilogb(exact) - 7);
        const double most = shape().rounding == Bf16Rounding::kNearest ? 0.51 * ulp : 1.01 * ulp;
        ASSERT_LE(std::abs(ref::at(param, i) - exact), most) << "element " << i;
    }
}

/// Ranks, threads and vectors divide the elements in other ways.
TEST_P(AdamwInBf16, PartsGiveTheBitsOfTheWhole) {
    const Tensors whole = tensors(), parts = tensors();
    step(whole, 0, count_);
    const int64_t cut = count_ / 3;
    if (cut > 0) step(parts, 0, cut);
    step(parts, cut, count_ - cut);
    EXPECT_TRUE(same_bits(whole.param, parts.param));
    EXPECT_TRUE(same_bits(whole.m, parts.m));
    EXPECT_TRUE(same_bits(whole.v, parts.v));
    EXPECT_TRUE(same_bits(whole.compute, parts.compute));
}

INSTANTIATE_TEST_SUITE_P(Ops, AdamwInBf16, every_backend(rounded_shapes()), case_name<RoundedShape>);

/// A decay below half an ulp: rounded to nearest, v never moves; stochastically, its mean follows.
TEST(AdamwInBf16Decay, IsLostByNearestAndKeptByStochasticRounding) {
    constexpr int64_t kCount = 4096, kSteps = 200;
    for (const Target& target : f32_targets())
        for (const Bf16Rounding rounding : {Bf16Rounding::kNearest, Bf16Rounding::kStochastic}) {
            Context& ctx = context(target.device);
            const auto tensor = [&](DType dtype, double value) {
                return DeviceTensor(ctx, dtype, {kCount}, Role::kInOut,
                                    std::vector<double>(static_cast<size_t>(kCount), value));
            };
            const DeviceTensor param = tensor(DType::kF32, 1), grad = tensor(DType::kF32, 0),
                               m = tensor(DType::kBF16, 0), v = tensor(DType::kBF16, 1);
            const DeviceTensor sums(ctx, DType::kF64, {1}, Role::kInput, std::vector<double>{0});
            for (int64_t step = 1; step <= kSteps; ++step) {
                AdamwParams params{1e-3f, 0.9f, 0.999f, 1e-8f, 0, step, 0};
                params.rounding = {rounding, rounding, 1, 0};
                adamw_step(ctx, param, m, v, {}, grad, sums, params);
            }
            double mean = 0;
            for (const double value : v.values()) mean += value / kCount;
            if (rounding == Bf16Rounding::kNearest) {
                EXPECT_EQ(mean, 1.0);
            } else {
                EXPECT_NEAR(mean, std::pow(0.999, kSteps), 0.002) << to_string(target);
            }
        }
}

}  // namespace
}  // namespace pastur::test
