#include "kernels/rmsnorm.h"

#include <limits>

#include "tests/ref/rmsnorm.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

constexpr float kEps = 1e-6f;

struct NormShape {
    int64_t rows, width;
    int64_t before = 0, after = 0;  ///< x, dy and dx are slices of rows with so many more columns
    /// Above 1: [rows / heads, heads, width], with `gap` columns behind each head.
    int64_t heads = 1, gap = 0;
    std::string name() const {
        return fmt::format("N{}_C{}{}{}", rows, width,
                           before + after ? fmt::format("_in{}", before + width + after) : "",
                           heads > 1 ? fmt::format("_heads{}_gap{}", heads, gap) : "");
    }
    Layout rows_layout() const {
        if (heads == 1) return columns({rows, width}, before, after);
        const int64_t token = before + heads * (width + gap) + after;
        return Layout({rows / heads, heads, width}, {token, width + gap, 1}, before);
    }
    Layout rstd_layout() const { return heads == 1 ? Layout{rows} : Layout{rows / heads, heads}; }
};

const std::vector<NormShape> kShapes = {
    {1, 1},
    {7, 1},
    {1, 3},
    {5, 3},
    {3, 17},
    {7, 129},
    {33, 64},
    {2, 768},
    {5, 509},
    {3, 2049},
    {300, 40},
    {4, 7, 3, 5},
    {6, 64, 0, 32},
    {9, 192, 192, 64},
    {3, 129, 1, 0},
    {1031, 8},
    {77, 384},
    {12, 5, 3, 4, 4, 2},
    {24, 64, 64, 192, 3, 64},
    {35, 32, 160, 0, 5, 0},
    {6, 8, 0, 8, 1, 0},
    {1030, 16, 8, 8, 2, 0},
};

class RmsNorm : public OpTest<NormShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    const std::vector<double> x_ = normal(rows_ * width_, 1.5);
    const std::vector<double> weight_ = random_.normal(width_, DType::kF32, 0.3, 1.0);
    const std::vector<double> dy_ = normal(rows_ * width_);
    const std::vector<double> residual_ = normal(rows_ * width_);
    const std::vector<double> before_ = random_.normal(width_, DType::kF32);  ///< value of dweight before +=

    std::vector<double> rstd() const {
        std::vector<double> values = ref::rms_rstd(x_, rows_, width_, kEps);
        for (double& value : values) value = rounded(value, DType::kF32);
        return values;
    }
    /// sum dy rmsnorm(x, weight) + residual_scale sum residual x + before_scale sum before weight. Its
    /// derivatives are dx, including the gradient of the residual stream, and dweight plus its previous
    /// value.
    auto loss(double residual_scale, double before_scale) const {
        return [=, this](const ComplexArguments& a) {
            return ref::dot(dy_, ref::rmsnorm(a[0], a[1], rows_, width_, kEps)) +
                   residual_scale * ref::dot(residual_, a[0]) + before_scale * ref::dot(before_, a[1]);
        };
    }
    /// The arguments of a backward pass with dweight =, and its scratch.
    RmsnormBackward arguments(Tensor dx, Tensor dweight, ConstTensor dy, ConstTensor x, ConstTensor rstds,
                              ConstTensor weight) {
        reserve(rmsnorm_backward_scratch_bytes(ctx(), rows_, width_));
        return {.dx = dx,
                .dweight = dweight,
                .dweight_update = Update::kAssign,
                .dy = dy,
                .x = x,
                .rstd = rstds,
                .weight = weight};
    }
    void backward(Tensor dx, Tensor dweight, ConstTensor dresidual, Update update) {
        const auto dy = input(dy_, shape().rows_layout()), x = input(x_, shape().rows_layout());
        const auto rstds = input(rstd(), shape().rstd_layout(), DType::kF32),
                   weight = input(weight_, {width_}, DType::kF32);
        RmsnormBackward p = arguments(dx, dweight, dy, x, rstds, weight);
        p.dweight_update = update;
        p.dresidual = dresidual;
        rmsnorm_backward(ctx(), p);
    }
};

TEST_P(RmsNorm, ForwardMatchesReference) {
    const auto x = input(x_, shape().rows_layout()), weight = input(weight_, {width_}, DType::kF32);
    const auto out = output(shape().rows_layout()), rstds = output(shape().rstd_layout(), DType::kF32);
    rmsnorm_forward(ctx(), out, rstds, x, weight, kEps);
    EXPECT_TRUE(close_to(out, ref::rmsnorm(x_, weight_, rows_, width_, kEps)));
    EXPECT_TRUE(close_to(rstds, ref::rms_rstd(x_, rows_, width_, kEps)));
}

TEST_P(RmsNorm, BackwardIsTheGradient) {
    const auto dx = output(shape().rows_layout()), dweight = output({width_}, DType::kF32);
    backward(dx, dweight, {}, Update::kAssign);
    // At width 1 the output is the sign of x, so the gradient vanishes up to eps, while its terms (dy weight
    // rstd) do not.
    const double terms = width_ == 1 ? 1.0 : 0.0;
    EXPECT_TRUE(is_gradient(dx, loss(0, 0), {x_, weight_}, 0, {.terms = terms}));
    EXPECT_TRUE(is_gradient(dweight, loss(0, 0), {x_, weight_}, 1));
}

TEST_P(RmsNorm, BackwardAddsTheResidualAndAccumulates) {
    const auto dx = output(shape().rows_layout()), dweight = in_out(before_, {width_}, DType::kF32);
    const auto dresidual = input(residual_, shape().rows_layout());
    backward(dx, dweight, dresidual, Update::kAccumulate);
    EXPECT_TRUE(is_gradient(dx, loss(1, 1), {x_, weight_}, 0));
    EXPECT_TRUE(is_gradient(dweight, loss(1, 1), {x_, weight_}, 1));
}

TEST_P(RmsNorm, BackwardInPlaceOnTheResidualGradient) {
    const auto dx = in_out(residual_, shape().rows_layout()), dweight = output({width_}, DType::kF32);
    const auto separate = output(shape().rows_layout()), dweight_separate = output({width_}, DType::kF32);
    const auto dresidual = input(residual_, shape().rows_layout());
    backward(dx, dweight, dx, Update::kAssign);
    backward(separate, dweight_separate, dresidual, Update::kAssign);
    EXPECT_TRUE(same_bits(dx, separate));
    EXPECT_TRUE(same_bits(dweight, dweight_separate)) << "the order of dweight's sum is not fixed";
}

TEST_P(RmsNorm, BackwardRecomputesTheOutput) {
    const Layout layout = shape().rows_layout();
    const auto x = input(x_, layout), weight = input(weight_, {width_}, DType::kF32);
    const auto rstds = output(shape().rstd_layout(), DType::kF32);
    const auto want = output(layout), out = output(layout), over_dy = in_out(dy_, layout);
    rmsnorm_forward(ctx(), want, rstds, x, weight, kEps);
    const auto dx_alone = output(layout), dx = output(layout), dx_over = output(layout);
    const auto dweight = output({width_}, DType::kF32);
    const auto run = [&](Tensor to, Tensor recomputed, ConstTensor dy) {
        RmsnormBackward p = arguments(to, dweight, dy, x, rstds, weight);
        p.out = recomputed;
        rmsnorm_backward(ctx(), p);
    };
    run(dx_alone, {}, input(dy_, layout));
    run(dx, out, input(dy_, layout));
    run(dx_over, over_dy, over_dy);
    EXPECT_TRUE(same_bits(out, want));
    EXPECT_TRUE(same_bits(over_dy, want));
    EXPECT_TRUE(same_bits(dx, dx_alone));
    EXPECT_TRUE(same_bits(dx_over, dx_alone));
}

TEST_P(RmsNorm, AGainScalesTheOutputAndItsGradients) {
    constexpr float kGain = 1.75f;
    const Layout layout = shape().rows_layout();
    const auto x = input(x_, layout), dy = input(dy_, layout), weight = input(weight_, {width_}, DType::kF32);
    const auto out = output(layout), rstds = output(shape().rstd_layout(), DType::kF32);
    rmsnorm_forward(ctx(), out, rstds, x, weight, kEps, {}, kGain);
    EXPECT_TRUE(close_to(out, ref::rmsnorm(x_, weight_, rows_, width_, kEps, kGain)));
    EXPECT_TRUE(close_to(rstds, ref::rms_rstd(x_, rows_, width_, kEps))) << "the gain is no part of rstd";

    const auto dx = output(layout), recomputed = output(layout), dweight = output({width_}, DType::kF32);
    RmsnormBackward p = arguments(dx, dweight, dy, x, rstds, weight);
    p.gain = kGain;
    p.out = recomputed;
    rmsnorm_backward(ctx(), p);
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dy_, ref::rmsnorm(a[0], a[1], rows_, width_, kEps, kGain));
    };
    const double terms = width_ == 1 ? kGain : 0.0;  // as in BackwardIsTheGradient
    EXPECT_TRUE(is_gradient(dx, loss, {x_, weight_}, 0, {.terms = terms}));
    EXPECT_TRUE(is_gradient(dweight, loss, {x_, weight_}, 1));
    EXPECT_TRUE(same_bits(recomputed, out));
}

TEST_P(RmsNorm, NonFiniteSumsOfSquaresMakeTheirOwnRowNaN) {
    std::vector<double> kinds = kinds_of_nan();
    for (const double large : {1e20, -3e38})  // finite, but not their squares in fp32
        kinds.push_back(rounded(large, dtype()));
    kinds.push_back(std::numeric_limits<double>::infinity());
    std::vector<double> of_nan(x_);
    of_nan.back() = kinds.front();
    for (double kind : kinds) {
        std::vector<double> damaged(x_);
        damaged.back() = kind;
        const auto x = input(damaged, shape().rows_layout()), weight = input(weight_, {width_}, DType::kF32);
        const auto out = output(shape().rows_layout()), rstds = output(shape().rstd_layout(), DType::kF32);
        rmsnorm_forward(ctx(), out, rstds, x, weight, kEps);
        EXPECT_TRUE(close_to(out, ref::rmsnorm(of_nan, weight_, rows_, width_, kEps))) << kind;
        EXPECT_TRUE(close_to(rstds, ref::rms_rstd(of_nan, rows_, width_, kEps))) << kind;
    }
}

TEST_P(RmsNorm, RowsOfZerosAreScaledByEpsAlone) {
    const std::vector<double> zeros(x_.size(), 0.0);
    const double rstd = 1 / std::sqrt(static_cast<double>(kEps));
    const auto x = input(zeros, shape().rows_layout()), dy = input(dy_, shape().rows_layout());
    const auto weight = input(weight_, {width_}, DType::kF32);
    const auto rstds = output(shape().rstd_layout(), DType::kF32), out = output(shape().rows_layout());
    rmsnorm_forward(ctx(), out, rstds, x, weight, kEps);
    EXPECT_TRUE(same_values(out, zeros));
    EXPECT_TRUE(close_to(rstds, std::vector<double>(static_cast<size_t>(rows_), rstd)));

    const auto given = input(rstds.values(), shape().rstd_layout(), DType::kF32);
    const auto dx = output(shape().rows_layout()), dweight = output({width_}, DType::kF32);
    rmsnorm_backward(ctx(), arguments(dx, dweight, dy, x, given, weight));
    std::vector<double> want(dy_);
    for (int64_t i = 0; i < rows_ * width_; ++i) ref::at(want, i) *= ref::at(weight_, i % width_) * rstd;
    EXPECT_TRUE(close_to(dx, want));
    EXPECT_TRUE(same_values(dweight, std::vector<double>(weight_.size(), 0.0)));
}

INSTANTIATE_TEST_SUITE_P(Ops, RmsNorm, every_target(kShapes), case_name<NormShape>);

TEST(RmsNormFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({2, 8}), rstd = tensor({2}), weight = tensor({8});
    EXPECT_THROW(rmsnorm_forward(ctx, tensor({2, 7}), rstd, x, weight, kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, tensor({3}), x, weight, kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, rstd, x, tensor({7}), kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, rstd, tensor({16}), weight, kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, tensor({2, 8}, DType::kBF16), rstd, x, weight, kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, rstd, x, tensor({8}, DType::kBF16), kEps), Error);
    const Tensor heads = tensor({2, 3, 8});
    EXPECT_NO_THROW(rmsnorm_forward(ctx, heads, tensor({2, 3}), heads, weight, kEps));
    EXPECT_THROW(rmsnorm_forward(ctx, heads, rstd, heads, weight, kEps), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, heads, tensor({2, 3}), tensor({2, 8, 3}), weight, kEps), Error);
    const RmsnormBackward fits{.dx = x,
                               .dweight = weight,
                               .dweight_update = Update::kAssign,
                               .dy = x,
                               .x = x,
                               .rstd = rstd,
                               .weight = weight,
                               .dresidual = x,
                               .out = x};
    reserve_scratch(ctx, rmsnorm_backward_scratch_bytes(ctx, 2, 8));
    EXPECT_NO_THROW(rmsnorm_backward(ctx, fits));
    const auto expect_rejected = [&](auto RmsnormBackward::*argument, Tensor other) {
        RmsnormBackward wrong = fits;
        wrong.*argument = other;
        EXPECT_THROW(rmsnorm_backward(ctx, wrong), Error) << describe(other);
    };
    expect_rejected(&RmsnormBackward::dx, tensor({2, 8}, DType::kBF16));
    expect_rejected(&RmsnormBackward::dweight, tensor({7}));
    expect_rejected(&RmsnormBackward::dy, tensor({3, 8}));
    expect_rejected(&RmsnormBackward::rstd, tensor({3}));
    expect_rejected(&RmsnormBackward::weight, tensor({7}));
    expect_rejected(&RmsnormBackward::dresidual, tensor({2, 4}));
    expect_rejected(&RmsnormBackward::out, tensor({2, 7}));
}

}  // namespace
}  // namespace pastur::test
