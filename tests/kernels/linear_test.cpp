#include "kernels/matmul.h"

#include "tests/ref/linear.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct LinearShape {
    int64_t rows, in, out;
    int64_t before = 0, after = 0;  ///< columns of the wider rows that x, y, dx and dy are slices of
    std::string name() const {
        return fmt::format("N{}_I{}_O{}{}", rows, in, out,
                           before + after ? fmt::format("_slice{}_{}", before, after) : "");
    }
    Layout x() const { return columns({rows, in}, before, after); }
    Layout y() const { return columns({rows, out}, before, after); }
};

const std::vector<LinearShape> kShapes = {
    {1, 1, 1},         {1, 17, 3},
    {7, 1, 5},         {5, 3, 1},
    {3, 5, 7},         {13, 17, 19},
    {33, 64, 40},      {64, 64, 64},
    {65, 129, 33},     {257, 24, 16},
    {4, 2048, 24},     {9, 40, 1031},
    {6, 8, 16, 8, 24}, {33, 64, 32, 64, 128},
    {5, 7, 3, 1, 2},   {129, 192, 96, 0, 32},
    {2051, 16, 8},
};

class Linear : public OpTest<LinearShape> {
  protected:
    const int64_t rows_ = shape().rows, in_ = shape().in, out_ = shape().out;
    const std::vector<double> x_ = normal(rows_ * in_), w_ = normal(out_ * in_, 0.5);
    const std::vector<double> dy_ = normal(rows_ * out_), residual_ = normal(rows_ * out_);
    const std::vector<double> before_dx_ = normal(rows_ * in_);
    const std::vector<double> before_dw_ = random_.normal(out_ * in_, DType::kF32);

    std::vector<double> expected(bool with_residual) const {
        std::vector<double> y = ref::linear(x_, w_, rows_, in_, out_);
        return with_residual ? ref::add(y, residual_) : y;
    }
    /// The loss whose gradients are dx and dw, plus their previous values if before_scale is 1.
    auto loss(double before_scale) const {
        return [=, this](const ComplexArguments& a) {
            return ref::dot(dy_, ref::linear(a[0], a[1], rows_, in_, out_)) +
                   before_scale * (ref::dot(before_dx_, a[0]) + ref::dot(before_dw_, a[1]));
        };
    }
};

TEST_P(Linear, ForwardMatchesReference) {
    const auto x = input(x_, shape().x()), w = input(w_, {out_, in_}), y = output(shape().y());
    linear_forward(ctx(), y, x, w);
    EXPECT_TRUE(close_to(y, expected(false)));
}

TEST_P(Linear, ForwardAddsTheResidualAlsoInPlace) {
    const auto x = input(x_, shape().x()), w = input(w_, {out_, in_}),
               residual = input(residual_, shape().y());
    const auto y = output(shape().y()), in_place = in_out(residual_, shape().y());
    linear_forward(ctx(), y, x, w, residual);
    linear_forward(ctx(), in_place, x, w, in_place);
    EXPECT_TRUE(close_to(y, expected(true)));
    EXPECT_TRUE(close_to(in_place, expected(true)));
}

TEST_P(Linear, BackwardInputIsTheGradient) {
    const auto dy = input(dy_, shape().y()), w = input(w_, {out_, in_});
    const auto dx = output(shape().x()), added = in_out(before_dx_, shape().x());
    linear_backward_input(ctx(), dx, dy, w, Update::kAssign);
    linear_backward_input(ctx(), added, dy, w, Update::kAccumulate);
    EXPECT_TRUE(is_gradient(dx, loss(0), {x_, w_}, 0));
    EXPECT_TRUE(is_gradient(added, loss(1), {x_, w_}, 0));
}

TEST_P(Linear, BackwardWeightIsTheGradient) {
    const auto dy = input(dy_, shape().y()), x = input(x_, shape().x());
    const auto dw = output({out_, in_}, DType::kF32), added = in_out(before_dw_, {out_, in_}, DType::kF32);
    linear_backward_weight(ctx(), dw, dy, x, Update::kAssign);
    linear_backward_weight(ctx(), added, dy, x, Update::kAccumulate);
    EXPECT_TRUE(is_gradient(dw, loss(0), {x_, w_}, 1));
    EXPECT_TRUE(is_gradient(added, loss(1), {x_, w_}, 1));
}

TEST_P(Linear, TwoRunsGiveTheSameBits) {
    const auto dy = input(dy_, shape().y()), x = input(x_, shape().x()), w = input(w_, {out_, in_});
    const auto y = output(shape().y()), y_again = output(shape().y());
    const auto dx = output(shape().x()), dx_again = output(shape().x());
    const auto dw = output({out_, in_}, DType::kF32), dw_again = output({out_, in_}, DType::kF32);
    for (const auto* run : {&y, &y_again}) linear_forward(ctx(), *run, x, w);
    for (const auto* run : {&dx, &dx_again}) linear_backward_input(ctx(), *run, dy, w, Update::kAssign);
    for (const auto* run : {&dw, &dw_again}) linear_backward_weight(ctx(), *run, dy, x, Update::kAssign);
    EXPECT_TRUE(same_bits(y, y_again));
    EXPECT_TRUE(same_bits(dx, dx_again));
    EXPECT_TRUE(same_bits(dw, dw_again));
}

INSTANTIATE_TEST_SUITE_P(Ops, Linear, every_target(kShapes), case_name<LinearShape>);

TEST(LinearFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({3, 4}), w = tensor({5, 4}), y = tensor({3, 5});
    EXPECT_THROW(linear_forward(ctx, y, tensor({3, 5}), w), Error);
    EXPECT_THROW(linear_forward(ctx, tensor({3, 4}), x, w), Error);
    EXPECT_THROW(linear_forward(ctx, y, x, tensor({4, 5})), Error) << "weights are [out, in]";
    EXPECT_THROW(linear_forward(ctx, y, x, w, tensor({2, 5})), Error);
    EXPECT_THROW(linear_forward(ctx, y, x, tensor({5, 4}, DType::kBF16)), Error);
    EXPECT_THROW(linear_forward(ctx, y, x, Tensor(w.bytes(), DType::kF32, {5, 4}, {8, 1})), Error);
    EXPECT_THROW(linear_backward_input(ctx, tensor({3, 5}), y, w, Update::kAssign), Error);
    EXPECT_THROW(linear_backward_weight(ctx, tensor({4, 5}), y, x, Update::kAssign), Error);
    EXPECT_THROW(linear_backward_weight(ctx, tensor({5, 4}, DType::kBF16), y, x, Update::kAssign), Error);
}

}  // namespace
}  // namespace pastur::test
