#include "kernels/fill.h"

#include <bit>
#include <limits>

#include "tests/ref/philox.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct FillShape {
    int64_t count;
    std::string name() const { return fmt::format("n{}", count); }
};

const std::vector<FillShape> kShapes = {{1}, {2}, {3}, {4}, {5}, {31}, {129}, {1027}, {65539}};

class Fill : public OpTest<FillShape> {
  protected:
    const int64_t count_ = shape().count;
};

TEST_P(Fill, SetsEveryElement) {
    for (DType type : {DType::kF32, DType::kBF16, DType::kF64}) {
        for (double value : {0.0, -1.5, 3.25}) {
            const auto x = output({count_}, type);
            fill(ctx(), x, static_cast<float>(value));
            EXPECT_TRUE(same_values(x, std::vector<double>(static_cast<size_t>(count_), value)))
                << name_of(type);
        }
    }
}

// Seeds and streams with and without upper halves, which Philox stores in separate words of key and counter.
constexpr uint64_t kSeeds[] = {0, 1, 0x123456789abcdef0};
constexpr uint64_t kStreams[] = {0, 7, 0xfedcba9876543210};

TEST_P(Fill, UniformsMatchTheReferenceBitForBit) {
    for (uint64_t seed : kSeeds) {
        for (uint64_t stream : kStreams) {
            const auto x = output({count_});
            fill_uniform(ctx(), x, seed, stream);
            std::vector<double> want;
            for (int64_t i = 0; i < count_; ++i) want.push_back(ref::philox_uniform(seed, stream, i));
            EXPECT_TRUE(same_values(x, want)) << "seed " << seed << " stream " << stream;
        }
    }
}

TEST_P(Fill, NormalsMatchTheReferenceToRounding) {
    for (uint64_t seed : kSeeds) {
        const auto x = output({count_});
        fill_normal(ctx(), x, 0.5f, 2.0f, seed, 3);
        std::vector<double> want;
        for (int64_t i = 0; i < count_; ++i) want.push_back(0.5 + 2.0 * ref::philox_normal(seed, 3, i));
        EXPECT_TRUE(close_to(x, want, 1.0)) << "seed " << seed;
    }
}

TEST_P(Fill, ElementsDependOnTheirIndexOnly) {
    const auto shorter = output({count_}), longer = output({count_ + 13});
    fill_normal(ctx(), shorter, 0, 1, 42, 1);
    fill_normal(ctx(), longer, 0, 1, 42, 1);
    std::vector<double> head = longer.values();
    head.resize(static_cast<size_t>(count_));
    EXPECT_TRUE(same_values(shorter, head));
}

TEST_P(Fill, CastToBf16RoundsToNearestEvenAndBackIsExact) {
    const std::vector<double> x = random_.normal(count_, DType::kF32, 3);
    const auto wide = input(x, {count_}, DType::kF32), narrow = output({count_}, DType::kBF16);
    const auto back = output({count_}, DType::kF32);
    cast(ctx(), narrow, wide);
    std::vector<double> want(x);
    for (double& value : want) value = rounded(value, DType::kBF16);
    EXPECT_TRUE(same_values(narrow, want));
    cast(ctx(), back, narrow);
    EXPECT_TRUE(same_values(back, want));
}

INSTANTIATE_TEST_SUITE_P(Ops, Fill, every_backend(kShapes), case_name<FillShape>);

float from_bits(uint32_t bits) {
    return std::bit_cast<float>(bits);
}

TEST(Cast, SpecialValues) {
    const float infinity = std::numeric_limits<float>::infinity();
    // Numbers halfway between two bf16 numbers round to the one with the even last bit.
    const std::vector<double> x{from_bits(0x3f808000),
                                from_bits(0x3f818000),
                                from_bits(0x3f808001),
                                from_bits(0x3f817fff),
                                -0.0,
                                infinity,
                                -infinity,
                                std::numeric_limits<float>::max(),
                                std::numeric_limits<float>::quiet_NaN(),
                                from_bits(0x00408000),
                                from_bits(0x80000001)};
    const std::vector<double> want{from_bits(0x3f800000),
                                   from_bits(0x3f820000),
                                   from_bits(0x3f810000),
                                   from_bits(0x3f810000),
                                   -0.0,
                                   infinity,
                                   -infinity,
                                   infinity,
                                   std::numeric_limits<float>::quiet_NaN(),
                                   from_bits(0x00400000),
                                   -0.0};
    const auto count = static_cast<int64_t>(x.size());
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const DeviceTensor wide(ctx, DType::kF32, {count}, Role::kInput, x);
        const DeviceTensor narrow(ctx, DType::kBF16, {count}, Role::kOutput);
        const DeviceTensor back(ctx, DType::kF32, {count}, Role::kOutput);
        cast(ctx, narrow, wide);
        cast(ctx, back, narrow);
        EXPECT_TRUE(same_values(narrow, want)) << to_string(target);
        EXPECT_TRUE(same_values(back, want)) << to_string(target);
        EXPECT_TRUE(std::signbit(narrow.values()[4])) << to_string(target);
    }
}

TEST(FillNormal, HasItsMomentsAndIndependentStreams) {
    constexpr int64_t kCount = 1 << 20;
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const DeviceTensor a(ctx, DType::kF32, {kCount}, Role::kOutput),
            b(ctx, DType::kF32, {kCount}, Role::kOutput);
        fill_normal(ctx, a, 0, 1, 1, 0);
        fill_normal(ctx, b, 0, 1, 1, 1);
        const std::vector<double> x = a.values(), y = b.values();
        double mean = 0, variance = 0, kurtosis = 0, across = 0, lagged = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            mean += x[i] / kCount;
            variance += x[i] * x[i] / kCount;
            kurtosis += x[i] * x[i] * x[i] * x[i] / kCount;
            across += x[i] * y[i] / kCount;
            lagged += i ? x[i] * x[i - 1] / kCount : 0;
        }
        // Each bound is five standard deviations of its estimate.
        const double sigma = 5 / std::sqrt(static_cast<double>(kCount));
        EXPECT_NEAR(mean, 0, sigma) << to_string(target);
        EXPECT_NEAR(variance, 1, sigma * std::sqrt(2.0)) << to_string(target);
        EXPECT_NEAR(kurtosis, 3, sigma * std::sqrt(96.0)) << to_string(target);
        EXPECT_NEAR(across, 0, sigma) << to_string(target);
        EXPECT_NEAR(lagged, 0, sigma) << to_string(target);
    }
}

TEST(FillUniform, CoversTheInterval) {
    constexpr int64_t kCount = 1 << 18;
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const DeviceTensor x(ctx, DType::kF32, {kCount}, Role::kOutput);
        fill_uniform(ctx, x, 9, 0);
        std::vector<int64_t> bins(16, 0);
        for (double value : x.values()) {
            ASSERT_TRUE(value > 0 && value <= 1) << value;
            ++ref::at(bins, std::min<int64_t>(15, static_cast<int64_t>(value * 16)));
        }
        for (int64_t bin : bins)
            EXPECT_NEAR(static_cast<double>(bin), kCount / 16.0, 5 * std::sqrt(kCount / 16.0));
    }
}

TEST(FillFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    EXPECT_THROW(fill(ctx, tensor({4}, DType::kI32), 1), Error);
    EXPECT_THROW(fill(ctx, Tensor(tensor({4}).bytes(), DType::kF32, {4, 2}, {4, 1}), 1), Error);
    EXPECT_THROW(fill_uniform(ctx, tensor({4}, DType::kBF16), 1, 1), Error);
    EXPECT_THROW(fill_normal(ctx, tensor({4}, DType::kF64), 0, 1, 1, 1), Error);
    EXPECT_THROW(cast(ctx, tensor({4}, DType::kBF16), tensor({5})), Error);
    EXPECT_THROW(cast(ctx, tensor({4}, DType::kI32), tensor({4})), Error);
}

}  // namespace
}  // namespace pastur::test
