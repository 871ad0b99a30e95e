#include "kernels/optimizer/adamw.h"

#include <limits>

#include "tests/ref/adamw.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct StepShape {
    int64_t count;
    int64_t step = 1;
    float weight_decay = 0, max_norm = 0, norm = 3;  ///< norm: of all gradients, passed as a sum of squares
    float eps = 1e-8f;
    std::string name() const {
        return fmt::format("n{}_step{}{}{}{}", count, step, weight_decay > 0 ? "_decay" : "",
                           max_norm == 0     ? ""
                           : max_norm < norm ? "_clipped"
                                             : "_within",
                           eps > 1e-3f ? "_eps" : "");
    }
    AdamwParams params() const { return {0.05f, 0.9f, 0.95f, eps, weight_decay, step, max_norm}; }
    ref::AdamwSettings settings() const {
        const AdamwParams p = params();
        return {p.lr, p.beta1, p.beta2, p.eps, p.weight_decay, p.max_norm, p.step};
    }
};

const std::vector<StepShape> kShapes = {
    {1},
    {3},
    {7, 2},
    {31},
    {257, 10},
    {1000, 1000000},
    {4099, 3, 0.1f},
    {129, 5, 0.1f, 1.0f, 3.0f},
    {129, 5, 0.1f, 4.0f, 3.0f},
    {65, 1, 0, 0.5f, 0.5f},
    {33, 4, 0, 1.0f, 0},
    {77, 2, 0.01f, 1.0f, 1e4f, 0.1f},
    {100003, 7, 0.1f, 1.0f, 2.0f},
};

class Adamw : public OpTest<StepShape> {
  protected:
    const int64_t count_ = shape().count;
    const ref::AdamwState start_ = make_start();
    const std::vector<double> grad_ = normal(count_);

    ref::AdamwState make_start() {
        ref::AdamwState state{normal(count_), normal(count_, 0.5), normal(count_, 0.5)};
        for (double& v : state.v) v *= v;
        for (double& v : state.v) v = rounded(v, DType::kF32);
        if (shape().step > 1) return state;
        state.m.assign(static_cast<size_t>(count_), 0);
        state.v.assign(static_cast<size_t>(count_), 0);
        return state;
    }
    struct Tensors {
        DeviceTensor param, m, v, compute;
    };
    /// Tensors with guards. compute holds NaN until a step writes it.
    Tensors tensors() const {
        return {in_out(start_.param, {count_}), in_out(start_.m, {count_}), in_out(start_.v, {count_}),
                output({count_}, DType::kBF16)};
    }
    void step(const Tensors& state, Tensor compute, double sum_squares, double loss = 3) const {
        const auto grad = input(grad_, {count_}), sums = input({sum_squares, loss}, {2}, DType::kF64);
        adamw_step(ctx(), state.param, state.m, state.v, compute, grad, sums, shape().params());
    }
    void expect_nothing_changes(double sum_squares, double loss) const {
        const Tensors state = tensors(), untouched = tensors();
        step(state, state.compute, sum_squares, loss);
        EXPECT_TRUE(same_bits(state.param, untouched.param));
        EXPECT_TRUE(same_bits(state.m, untouched.m));
        EXPECT_TRUE(same_bits(state.v, untouched.v));
        EXPECT_TRUE(same_bits(state.compute, untouched.compute));
    }
    double sum_squares() const { return static_cast<double>(shape().norm) * shape().norm; }
};

std::vector<double> difference(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> out(a);
    for (size_t i = 0; i < b.size(); ++i) out[i] -= b[i];
    return out;
}

TEST_P(Adamw, StepMatchesReference) {
    const Tensors state = tensors();
    step(state, state.compute, sum_squares());
    ref::AdamwState want = start_;
    ref::adamw(want, grad_, sum_squares(), shape().settings());
    EXPECT_TRUE(close_to(state.param, want.param));
    EXPECT_TRUE(close_to(state.m, want.m));
    EXPECT_TRUE(close_to(state.v, want.v));
    // The step alone, which is small against the parameter and is rounded to the precision of the parameter.
    EXPECT_TRUE(close_to(difference(state.param.values(), start_.param), difference(want.param, start_.param),
                         DType::kF32, {count_}, 0.02));
}

TEST_P(Adamw, ComputeCopyIsTheRoundedParameter) {
    const Tensors state = tensors();
    step(state, state.compute, sum_squares());
    std::vector<double> want = state.param.values();
    for (double& x : want) x = rounded(x, DType::kBF16);
    EXPECT_TRUE(same_values(state.compute, want));
}

TEST_P(Adamw, WithoutComputeCopyGivesTheSameBits) {
    const Tensors with = tensors(), without = tensors();
    step(with, with.compute, sum_squares());
    step(without, {}, sum_squares());
    EXPECT_TRUE(same_bits(with.param, without.param));
    EXPECT_TRUE(same_bits(with.m, without.m));
    EXPECT_TRUE(same_bits(with.v, without.v));
}

TEST_P(Adamw, NonFiniteNormOrLossLeavesEveryByteAlone) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    const double squares = sum_squares();
    for (const auto& [sum_squares, loss] :
         {std::pair(kNan, 3.0), std::pair(kInfinity, 3.0), std::pair(squares, kNan),
          std::pair(squares, kInfinity), std::pair(squares, -kInfinity)})
        expect_nothing_changes(sum_squares, loss);
}

TEST_P(Adamw, SquaresBeyondFp32LeaveEveryByteAloneUnlessClipped) {
    constexpr double kBeyond = 1e40;  // v would be infinite, and its parameter would never move again
    if (shape().max_norm == 0) return expect_nothing_changes(kBeyond, 3);
    const Tensors state = tensors();
    step(state, state.compute, kBeyond);
    ref::AdamwState want = start_;
    ref::adamw(want, grad_, kBeyond, shape().settings());
    EXPECT_TRUE(close_to(state.param, want.param));
    for (const double v : state.v.values()) ASSERT_TRUE(std::isfinite(v));
}

TEST_P(Adamw, ManyStepsFollowTheReference) {
    const Tensors state = tensors();
    ref::AdamwState want = start_;
    AdamwParams params = shape().params();
    ref::AdamwSettings settings = shape().settings();
    const auto squares = input({sum_squares()}, {1}, DType::kF64);
    for (int i = 0; i < 10; ++i) {
        const std::vector<double> grad = Random(static_cast<uint64_t>(i)).normal(count_, DType::kF32);
        const auto device_grad = input(grad, {count_});
        adamw_step(ctx(), state.param, state.m, state.v, {}, device_grad, squares, params);
        ref::adamw(want, grad, sum_squares(), settings);
        ++params.step;
        ++settings.step;
    }
    EXPECT_TRUE(close_to(state.param, want.param));
}

INSTANTIATE_TEST_SUITE_P(Ops, Adamw, every_backend(kShapes), case_name<StepShape>);

TEST(AdamwFirstStep, HasUnitSizeForAnyGradient) {
    // At step 1 the bias corrections make mhat / sqrt(vhat) the sign of the gradient.
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const std::vector<double> grad{1e-3, -1e-3, 5, -700}, none(4, 0.0);
        const DeviceTensor param(ctx, DType::kF32, {4}, Role::kInOut, none),
            m(ctx, DType::kF32, {4}, Role::kInOut, none);
        const DeviceTensor v(ctx, DType::kF32, {4}, Role::kInOut, none),
            g(ctx, DType::kF32, {4}, Role::kInput, grad);
        const DeviceTensor squares(ctx, DType::kF64, {1}, Role::kInput, std::vector<double>{1.0});
        adamw_step(ctx, param, m, v, {}, g, squares, {0.25f, 0.9f, 0.999f, 1e-12f, 0, 1, 0});
        EXPECT_TRUE(close_to(param, {-0.25, 0.25, -0.25, 0.25})) << to_string(target);
    }
}

/// The largest gradient that is not clipped keeps its moments finite, and its parameter moves.
TEST(AdamwOverflow, MomentsOfEveryAcceptedGradientAreFinite) {
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const double largest = std::exp2(63.4);
        const auto one = [&](double value) {
            return DeviceTensor(ctx, DType::kF32, {1}, Role::kInOut, std::vector<double>{value});
        };
        const DeviceTensor param = one(0), m = one(0), v = one(0), grad = one(largest);
        const DeviceTensor squares(ctx, DType::kF64, {1}, Role::kInput,
                                   std::vector<double>{largest * largest});
        adamw_step(ctx, param, m, v, {}, grad, squares, {0.25f, 0.9f, 0.95f, 1e-8f, 0, 1, 0});
        EXPECT_TRUE(close_to(param, {-0.25})) << to_string(target);
        EXPECT_TRUE(std::isfinite(v.values()[0])) << to_string(target);
    }
}

TEST(AdamwFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor p = tensor({8}), squares = tensor({1}, DType::kF64);
    const AdamwParams params{1e-3f, 0.9f, 0.95f, 1e-8f, 0, 1, 0};
    EXPECT_THROW(adamw_step(ctx, p, p, p, {}, p, squares, {1e-3f, 0.9f, 0.99999999f, 1e-8f, 0, 1, 0}), Error)
        << "beta2 is 1 in fp32";
    EXPECT_THROW(adamw_step(ctx, p, tensor({7}), p, {}, p, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, p, p, p, {}, tensor({9}), squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, p, p, p, tensor({7}, DType::kBF16), p, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, p, p, p, tensor({8}), p, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, p, p, p, {}, p, tensor({1}), params), Error);
    const Tensor narrow = tensor({8}, DType::kBF16);
    EXPECT_THROW(adamw_step(ctx, p, p, p, {}, narrow, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, p, p, narrow, {}, p, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, narrow, p, p, narrow, p, squares, params), Error);
    EXPECT_THROW(adamw_step(ctx, tensor({8}, DType::kF64), p, p, {}, p, squares, params), Error);
}

}  // namespace
}  // namespace pastur::test
