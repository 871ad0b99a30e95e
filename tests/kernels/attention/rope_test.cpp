#include "kernels/attention/rope.h"

#include "tests/ref/rope.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct RopeShape {
    int64_t batch, time, heads, dim;
    int64_t before = 0, after = 0;              ///< columns around each head: the content part, other tensors
    int64_t token_before = 0, token_after = 0;  ///< columns around each token's heads: q | k | v
    std::string name() const {
        std::string text = fmt::format("B{}_T{}_H{}_D{}", batch, time, heads, dim);
        if (before + after) text += fmt::format("_head{}", before + dim + after);
        if (token_before + token_after) text += "_fused";
        return text;
    }
    Layout layout() const {
        const int64_t head = before + dim + after, token = token_before + heads * head + token_after;
        return Layout({batch, time, heads, dim}, {time * token, token, head, 1}, token_before + before);
    }
};

const std::vector<RopeShape> kShapes = {
    {1, 1, 1, 2},
    {1, 2, 1, 4},
    {2, 7, 3, 6},
    {1, 33, 2, 64},
    {3, 5, 1, 32},
    {2, 129, 5, 128},
    {2, 9, 3, 32, 32, 0},
    {1, 17, 4, 64, 0, 0, 256, 512},
    {2, 5, 1, 32, 0, 0, 384, 0},
    {1, 6, 2, 10, 3, 1, 5, 2},
    {1, 300, 1, 8},
};

class Rope : public OpTest<RopeShape> {
  protected:
    static constexpr double kBase = 10000.0;
    const int64_t batch_ = shape().batch, time_ = shape().time, heads_ = shape().heads, dim_ = shape().dim;
    const std::vector<double> x_ = normal(batch_ * time_ * heads_ * dim_);
    const std::vector<double> dout_ = normal(batch_ * time_ * heads_ * dim_);

    /// Longer than the sequence, as when a model reads sequences shorter than its limit.
    std::vector<double> table() const {
        std::vector<float> values(static_cast<size_t>((time_ + 3) * dim_));
        rope_table(as_tensor(std::span(values)).reshape({time_ + 3, dim_}), kBase);
        return std::vector<double>(values.begin(), values.end());
    }
    void run(Tensor out, ConstTensor in, Rotation rotation) {
        const auto angles = input(table(), {time_ + 3, dim_}, DType::kF32);
        rope(ctx(), out, in, angles, rotation);
    }
    std::vector<double> rotated(const std::vector<double>& x, double direction) const {
        return ref::rope(x, batch_, time_, heads_, dim_, kBase, direction);
    }
};

TEST_P(Rope, ForwardMatchesReference) {
    const auto x = input(x_, shape().layout()), out = output(shape().layout());
    run(out, x, Rotation::kForward);
    EXPECT_TRUE(close_to(out, rotated(x_, 1)));
}

TEST_P(Rope, InverseIsTheGradient) {
    const auto dout = input(dout_, shape().layout()), dx = output(shape().layout());
    run(dx, dout, Rotation::kInverse);
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dout_, ref::rope(a[0], batch_, time_, heads_, dim_, kBase));
    };
    EXPECT_TRUE(is_gradient(dx, loss, {x_}, 0));
    EXPECT_TRUE(close_to(dx, rotated(dout_, -1)));
}

TEST_P(Rope, InPlaceGivesTheSameBits) {
    for (Rotation rotation : {Rotation::kForward, Rotation::kInverse}) {
        const auto x = input(x_, shape().layout()), out = output(shape().layout());
        const auto in_place = in_out(x_, shape().layout());
        run(out, x, rotation);
        run(in_place, in_place, rotation);
        EXPECT_TRUE(same_bits(in_place, out));
    }
}

TEST_P(Rope, BetweenLayouts) {
    const auto x = input(x_, shape().layout()), out = output(Layout{batch_, time_, heads_, dim_});
    run(out, x, Rotation::kForward);
    EXPECT_TRUE(close_to(out, rotated(x_, 1)));
}

INSTANTIATE_TEST_SUITE_P(Ops, Rope, every_target(kShapes), case_name<RopeShape>);

TEST(RopeTable, IsTheCosineAndSineOfAnglesInDouble) {
    constexpr int64_t kTime = 8192, kDim = 64;
    for (double base : {10000.0, 500000.0}) {
        std::vector<float> table(kTime * kDim);
        rope_table(as_tensor(std::span(table)).reshape({kTime, kDim}), base);
        double worst = 0;
        for (int64_t t = 0; t < kTime; ++t) {
            for (int64_t i = 0; i < kDim / 2; ++i) {
                const double angle =
                    static_cast<double>(t) * std::pow(base, -2.0 * static_cast<double>(i) / kDim);
                worst = std::max(worst, std::abs(ref::at(table, t * kDim + i) - std::cos(angle)));
                worst = std::max(worst, std::abs(ref::at(table, t * kDim + kDim / 2 + i) - std::sin(angle)));
            }
        }
        EXPECT_LT(worst, 6.1e-8) << "half an ulp of 1, for base " << base;
    }
}

TEST(RopeFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({1, 4, 2, 8}), table = tensor({4, 8});
    EXPECT_THROW(rope(ctx, x, x, tensor({3, 8}), Rotation::kForward), Error)
        << "the table is shorter than the sequence";
    EXPECT_THROW(rope(ctx, x, x, tensor({4, 6}), Rotation::kForward), Error);
    EXPECT_THROW(rope(ctx, x, x, tensor({4, 8}, DType::kBF16), Rotation::kForward), Error);
    EXPECT_THROW(rope(ctx, x, tensor({1, 4, 1, 8}), table, Rotation::kForward), Error);
    EXPECT_THROW(rope(ctx, x, tensor({1, 4, 2, 8}, DType::kBF16), table, Rotation::kForward), Error);
    EXPECT_THROW(rope(ctx, tensor({1, 4, 2, 7}), tensor({1, 4, 2, 7}), tensor({4, 7}), Rotation::kForward),
                 Error)
        << "an odd width has no pairs";
}

}  // namespace
}  // namespace pastur::test
