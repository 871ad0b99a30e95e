#include "kernels/optimizer/qk_clip.h"

#include "tests/support/harness.h"

namespace pastur::test {
namespace {

struct ClipShape {
    int64_t heads, rows, first, stride, columns;
    int64_t padding = 0;  ///< columns between the rows
    std::string name() const {
        return fmt::format("H{}_rows{}from{}by{}_C{}{}", heads, rows, first, stride, columns,
                           padding > 0 ? fmt::format("and{}", padding) : "");
    }
};

class ScaleHeadRows : public OpTest<ClipShape> {
  protected:
    const int64_t first_element_ = 72;  // a multiple of 8, as offsets of parameters are
    const int64_t all_rows_ = shape().first + (shape().heads - 1) * shape().stride + shape().rows + 2;
    const Layout layout_ = columns({all_rows_, shape().columns}, 0, shape().padding);
    const std::vector<double> param_ = normal(all_rows_ * shape().columns);
    const std::vector<double> stale_ = normal(all_rows_ * shape().columns);
    const std::vector<double> factors_ = some_factors();

    std::vector<double> some_factors() const {
        static const double kSome[] = {0.7, 1, 0.999, 0.015};
        std::vector<double> factors;
        for (int64_t h = 0; h < shape().heads; ++h) factors.push_back(rounded(kSome[h % 4], DType::kF32));
        return factors;
    }
    /// The factor of a row; 1 of rows that belong to no head.
    double factor(int64_t row) const {
        for (int64_t h = 0; h < shape().heads; ++h) {
            const int64_t begin = shape().first + h * shape().stride;
            if (row >= begin && row < begin + shape().rows) return factors_[static_cast<size_t>(h)];
        }
        return 1;
    }
    /// A scaled number as it is stored: the product rounded to fp32, then to the dtype as `rounding` says.
    double stored(size_t i, const RoundingParams& rounding, int64_t step) const {
        const auto index = static_cast<int64_t>(i);
        const int64_t row = index / shape().columns;
        const float product = static_cast<float>(param_[i]) * static_cast<float>(factor(row));
        if (dtype() == DType::kF32) return product;
        if (rounding.param == Bf16Rounding::kNearest) return rounded(product, DType::kBF16);
        const int64_t element = rounding.first_element + row * layout_.strides[0] + index % shape().columns;
        const PhiloxBlock bits =
            rounding_bits(rounding.seed, step, RoundedNumber::kClippedParam, element / kElementsPerBlock);
        Bf16 number;
        number.bits =
            round_stochastically(product, bits_of_lane(bits, static_cast<int>(element % kElementsPerBlock)));
        return to_float(number);
    }
    void expect_scaled(Bf16Rounding how, bool with_compute) {
        const DType copies = dtype() == DType::kF32 ? DType::kBF16 : DType::kF32;
        const auto param = in_out(param_, layout_);
        std::vector<double> stale(stale_);
        for (double& x : stale) x = rounded(x, copies);
        const auto compute = in_out(stale, layout_, copies);
        const auto factors = input(factors_, {shape().heads}, DType::kF32);
        const RoundingParams rounding{.param = how, .seed = 5, .first_element = first_element_};
        scale_head_rows(ctx(), {param,
                                with_compute ? Tensor(compute) : Tensor(),
                                factors,
                                {shape().rows, shape().first, shape().stride},
                                rounding,
                                3});
        std::vector<double> want(param_), want_compute(stale);
        for (size_t i = 0; i < want.size(); ++i) {
            if (factor(static_cast<int64_t>(i) / shape().columns) == 1) continue;
            want[i] = stored(i, rounding, 3);
            if (with_compute) want_compute[i] = rounded(want[i], copies);
        }
        EXPECT_TRUE(same_values(param, want));
        EXPECT_TRUE(same_values(compute, want_compute));
    }
};

TEST_P(ScaleHeadRows, ScalesTheRowsOfHeadsAndNoOthers) {
    for (const bool with_compute : {false, true}) {
        expect_scaled(Bf16Rounding::kNearest, with_compute);
        expect_scaled(Bf16Rounding::kStochastic, with_compute);
    }
}

TEST_P(ScaleHeadRows, KeepsNaN) {
    for (const double nan : kinds_of_nan()) {
        std::vector<double> damaged(param_);
        const auto at = static_cast<size_t>(shape().first * shape().columns);
        damaged[at] = nan;
        const auto param = in_out(damaged, layout_);
        const auto factors = input(factors_, {shape().heads}, DType::kF32);
        scale_head_rows(ctx(), {param,
                                {},
                                factors,
                                {shape().rows, shape().first, shape().stride},
                                {.param = Bf16Rounding::kStochastic},
                                1});
        EXPECT_TRUE(std::isnan(param.values()[at]));
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, ScaleHeadRows,
                         every_target<ClipShape>({{1, 1, 0, 1, 1},
                                                  {2, 3, 0, 3, 7},
                                                  {3, 2, 4, 9, 129},
                                                  {4, 5, 1, 8, 33, 7},
                                                  {5, 64, 0, 64, 257},
                                                  {7, 32, 64, 96, 128, 64}}),
                         case_name<ClipShape>);

TEST(ScaleHeadRowsFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(256, 1.0f);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    const ScaledRows good{tensor({12, 8}), {}, tensor({3}), {4, 0, 4}};
    EXPECT_NO_THROW(scale_head_rows(ctx, good));
    const auto rejects = [&](auto change) {
        ScaledRows bad = good;
        change(bad);
        EXPECT_THROW(scale_head_rows(ctx, bad), Error);
    };
    rejects([&](ScaledRows& rows) { rows.param = tensor({11, 8}); });
    rejects([&](ScaledRows& rows) { rows.param = tensor({96}); });
    rejects([&](ScaledRows& rows) { rows.param = tensor({12, 8}, DType::kI32); });
    rejects([&](ScaledRows& rows) { rows.compute = tensor({12, 8}); });
    rejects([&](ScaledRows& rows) { rows.compute = tensor({12, 7}, DType::kBF16); });
    rejects([&](ScaledRows& rows) { rows.factors = tensor({3}, DType::kBF16); });
    rejects([&](ScaledRows& rows) { rows.factors = tensor({4}); });
    rejects([&](ScaledRows& rows) { rows.heads.first = 1; });
    rejects([&](ScaledRows& rows) { rows.heads.first = -1; });
    rejects([&](ScaledRows& rows) { rows.heads.stride = 3; });
    rejects([&](ScaledRows& rows) { rows.heads.rows = 0; });
}

}  // namespace
}  // namespace pastur::test
