#include "kernels/base/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace pastur::test {
namespace {

/// A tensor [2, 3, 4] of the numbers 0 to 23.
class TensorViews : public ::testing::Test {
  protected:
    TensorViews() { std::iota(numbers_.begin(), numbers_.end(), 0.0f); }
    float first(ConstTensor view) const { return *view.data<float>(); }

    std::vector<float> numbers_ = std::vector<float>(24);
    const Tensor tensor_ = as_tensor(std::span(numbers_)).reshape({2, 3, 4});
};

TEST_F(TensorViews, KnowTheirSizes) {
    EXPECT_EQ(tensor_.shape(), (Shape{2, 3, 4}));
    EXPECT_EQ(tensor_.strides(), (Shape{12, 4, 1}));
    EXPECT_EQ(tensor_.numel(), 24);
    EXPECT_EQ(tensor_.nbytes(), 96);
    EXPECT_EQ(tensor_.size(-1), 4);
    EXPECT_EQ(tensor_.stride(-2), 4);
    EXPECT_TRUE(tensor_.contiguous());
    EXPECT_FALSE(tensor_.empty());
    EXPECT_TRUE(Tensor().empty());
    EXPECT_EQ(Tensor().numel(), 0);
    EXPECT_FALSE(Tensor(nullptr, DType::kF32, {0}).empty()) << "it is not an omitted tensor";
}

TEST_F(TensorViews, SliceKeepsStridesAndMovesTheStart) {
    const Tensor middle = tensor_.slice(1, 1, 2);
    EXPECT_EQ(middle.shape(), (Shape{2, 2, 4}));
    EXPECT_EQ(middle.strides(), tensor_.strides());
    EXPECT_EQ(first(middle), 4);
    EXPECT_FALSE(middle.contiguous());
    const Tensor column = tensor_.slice(2, 3, 1).slice(0, 1, 1);
    EXPECT_EQ(column.shape(), (Shape{1, 3, 1}));
    EXPECT_EQ(first(column), 15);
    EXPECT_TRUE(tensor_.slice(0, 1, 1).contiguous());
    EXPECT_EQ(tensor_.slice(0, 2, 0).numel(), 0);
    EXPECT_THROW(tensor_.slice(1, 2, 2), Error);
    EXPECT_THROW(tensor_.slice(3, 0, 1), Error);
    EXPECT_THROW(tensor_.slice(0, -1, 1), Error);
}

TEST_F(TensorViews, UnflattenSplitsADimensionOfTensorsAndSlices) {
    const Tensor heads = tensor_.slice(2, 2, 2).unflatten(2, 2, 1);
    EXPECT_EQ(heads.shape(), (Shape{2, 3, 2, 1}));
    EXPECT_EQ(heads.strides(), (Shape{12, 4, 1, 1}));
    EXPECT_EQ(first(heads.slice(2, 1, 1)), 3);
    const Tensor rows = tensor_.reshape({6, 4}).unflatten(0, 3, 2);
    EXPECT_EQ(rows.strides(), (Shape{8, 4, 1}));
    EXPECT_EQ(first(rows.slice(0, 2, 1)), 16);
    EXPECT_THROW(tensor_.unflatten(2, 3, 2), Error);
    EXPECT_THROW(heads.unflatten(0, 2, 1), Error) << "the result would have five dimensions";
}

TEST_F(TensorViews, ReshapeNeedsContiguityAndTheSameCount) {
    EXPECT_EQ(tensor_.reshape({4, 6}).strides(), (Shape{6, 1}));
    EXPECT_EQ(tensor_.flat().shape(), (Shape{24}));
    EXPECT_THROW(tensor_.reshape({5, 5}), Error);
    EXPECT_THROW(tensor_.slice(1, 0, 2).flat(), Error);
}

TEST_F(TensorViews, AreReadInTheirOwnTypeOnly) {
    EXPECT_THROW(tensor_.data<double>(), Error);
    EXPECT_THROW(tensor_.data<int32_t>(), Error);
    tensor_.data<float>()[0] = 7;
    const ConstTensor constant = tensor_;
    EXPECT_EQ(constant.data<float>()[0], 7);
    static_assert(std::is_same_v<decltype(constant.data<float>()), const float*>);
}

TEST_F(TensorViews, DescribeThemselves) {
    EXPECT_EQ(describe(tensor_), "f32[2, 3, 4]");
    EXPECT_EQ(describe(tensor_.slice(1, 0, 2)), "f32[2, 2, 4] strides [12, 4, 1]");
    EXPECT_EQ(describe(Tensor()), "no tensor");
    EXPECT_EQ(describe(Tensor(nullptr, DType::kBF16, {1})), "bf16[1]");
}

TEST(Shapes, RejectInvalidExtents) {
    EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
    EXPECT_THROW((Shape{2, -1}), Error);
    EXPECT_EQ(Shape{}.numel(), 0);
    EXPECT_EQ((Shape{3, 0, 2}).numel(), 0);
    EXPECT_EQ((Shape{1 << 20, 1 << 20, 1 << 10}).numel(), int64_t{1} << 50);
    EXPECT_FALSE((Shape{2, 3}) == (Shape{2, 3, 1}));
}

/// The bf16 number nearest to x, found by a search over all of them; at a tie, the one with even bits.
uint16_t nearest_bf16(float x) {
    uint32_t best = 0;
    double best_distance = INFINITY;
    // Rounding treats infinity as 2^128, the number that would follow the largest one.
    const auto position = [](uint32_t bits) {
        const float value = to_float(Bf16{static_cast<uint16_t>(bits)});
        return std::isinf(value) ? std::copysign(0x1p128, static_cast<double>(value))
                                 : static_cast<double>(value);
    };
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        if ((bits & 0x7fff) > 0x7f80 || (bits >> 15) != std::signbit(x)) continue;
        const double distance = std::abs(position(bits) - static_cast<double>(x));
        if (distance < best_distance || (distance == best_distance && bits % 2 == 0)) {
            best = bits;
            best_distance = distance;
        }
    }
    return static_cast<uint16_t>(best);
}

TEST(Bf16Conversion, EveryNumberIsUnchangedByTheRoundTrip) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const Bf16 number{static_cast<uint16_t>(bits)};
        if (std::isnan(to_float(number)))
            ASSERT_TRUE(std::isnan(to_float(to_bf16(to_float(number))))) << bits;
        else
            ASSERT_EQ(to_bf16(to_float(number)).bits, bits);
    }
}

TEST(Bf16Conversion, RoundsToTheNearestAndTiesToEven) {
    const uint32_t patterns[] = {0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0x00000001,
                                 0x00008000, 0x00018000, 0x7f7fffff, 0x7f7f7fff, 0x7f7f8000,
                                 0x42f6e979, 0x807fffff, 0xc0490fdb, 0x80000000};
    for (uint32_t bits : patterns) {
        const auto x = std::bit_cast<float>(bits);
        EXPECT_EQ(to_bf16(x).bits, nearest_bf16(x)) << x;
    }
    EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))))
        << "NaN must not become infinity";
    EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xffffffffu)))));
}

/// The e4m3 number nearest to x, found by a search over all numbers of its sign.
uint8_t nearest_f8e4m3(float x) {
    uint8_t best = 0;
    double best_distance = INFINITY;
    for (uint32_t bits = 0; bits < 0x100; ++bits) {
        const auto value = static_cast<double>(to_float(F8E4M3{static_cast<uint8_t>(bits)}));
        if (std::isnan(value) || (bits >> 7) != std::signbit(x)) continue;
        const double distance = std::abs(value - static_cast<double>(x));
        if (distance < best_distance || (distance == best_distance && bits % 2 == 0)) {
            best = static_cast<uint8_t>(bits);
            best_distance = distance;
        }
    }
    return best;
}

TEST(F8E4M3Conversion, HasTheNumbersOfTheFormat) {
    const auto number = [](int bits) { return to_float(F8E4M3{static_cast<uint8_t>(bits)}); };
    EXPECT_EQ(number(0x00), 0.0f);
    EXPECT_EQ(number(0x01), 0x1p-9f) << "the smallest number";
    EXPECT_EQ(number(0x07), 7 * 0x1p-9f);
    EXPECT_EQ(number(0x08), 0x1p-6f) << "the smallest normal number";
    EXPECT_EQ(number(0x38), 1.0f);
    EXPECT_EQ(number(0x39), 1.125f);
    EXPECT_EQ(number(0x7e), kLargestF8E4M3);
    EXPECT_EQ(number(0xfe), -kLargestF8E4M3);
    EXPECT_TRUE(std::isnan(number(0x7f)));
    EXPECT_TRUE(std::isnan(number(0xff)));
    for (int bits = 0; bits < 0x100; ++bits) {
        if (bits % 0x80 == 0x7f) continue;
        ASSERT_EQ(to_f8e4m3(number(bits)).bits, bits);
    }
}

TEST(F8E4M3Conversion, RoundsToTheNearestAndTiesToEven) {
    std::vector<float> numbers = {0x1p-10f, 0x1.8p-10f, 0x1p-11f, 0x1.000002p-10f, 0x1p-126f, 0x1p-149f, 440};
    // Every number of the format, the middle of every two adjacent numbers, and the floats next to it.
    for (int bits = 0; bits < 0x7e; ++bits) {
        const float low = to_float(F8E4M3{static_cast<uint8_t>(bits)});
        const float middle = (low + to_float(F8E4M3{static_cast<uint8_t>(bits + 1)})) / 2;
        numbers.insert(numbers.end(),
                       {low, middle, std::nextafterf(middle, 0.0f), std::nextafterf(middle, INFINITY)});
    }
    for (const float size : numbers)
        for (const float x : {size, -size}) ASSERT_EQ(to_f8e4m3(x).bits, nearest_f8e4m3(x)) << x;
    for (const float beyond : {449.0f, 464.0f, 1e30f, std::numeric_limits<float>::infinity()}) {
        EXPECT_EQ(to_float(to_f8e4m3(beyond)), 448.0f) << beyond;
        EXPECT_EQ(to_float(to_f8e4m3(-beyond)), -448.0f) << beyond;
    }
    EXPECT_TRUE(std::isnan(to_float(to_f8e4m3(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace pastur::test
