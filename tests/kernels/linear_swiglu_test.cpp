#include "kernels/linear_swiglu.h"

#include "kernels/fp8.h"
#include "kernels/swiglu.h"
#include "tests/ref/linear.h"
#include "tests/ref/swiglu.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct GatedShape {
    int64_t rows, in, ffn;
    int64_t before = 0, after = 0;  ///< columns of the wider rows that x and dy are slices of
    std::string name() const {
        return fmt::format("N{}_K{}_F{}{}", rows, in, ffn,
                           before + after ? fmt::format("_slice{}_{}", before, after) : "");
    }
    Layout x() const { return columns({rows, in}, before, after); }
};

// On Hopper the fused kernel runs from 705 columns on, with both widths multiples of 8. Some of its tiles, of
// 256 rows by 128 (forward) or 256 columns of F, reach beyond the end.
const std::vector<GatedShape> kShapes = {
    {1, 1, 1},      {5, 3, 7},       {33, 64, 40},  {1, 712, 8},          {129, 768, 136},
    {300, 712, 64}, {257, 840, 264}, {70, 707, 24}, {40, 768, 64, 8, 24}, {1, 768, 64, 8, 3}};

class LinearSwiglu : public OpTest<GatedShape> {
  protected:
    const int64_t rows_ = shape().rows, in_ = shape().in, ffn_ = shape().ffn;
    const std::vector<double> x_ = normal(rows_ * in_), w_ = normal(2 * ffn_ * in_, 2 / std::sqrt(in_));
    const std::vector<double> dy_ = normal(rows_ * in_), down_ = normal(in_ * ffn_, 1 / std::sqrt(in_));
    const std::vector<double> gu_ = normal(rows_ * 2 * ffn_, 2.0);
};

TEST_P(LinearSwiglu, ForwardMatchesReference) {
    const auto x = input(x_, shape().x()), w = input(w_, {2 * ffn_, in_});
    const auto out = output({rows_, ffn_}), gu = output({rows_, 2 * ffn_}), again = output({rows_, ffn_});
    linear_swiglu_forward(ctx(), out, gu, x, w);
    EXPECT_TRUE(close_to(gu, ref::linear(x_, w_, rows_, in_, 2 * ffn_)));
    EXPECT_TRUE(close_to(out, ref::swiglu(gu.values(), rows_, ffn_)));
    swiglu_forward(ctx(), again, gu);
    EXPECT_TRUE(same_bits(out, again));
}

TEST_P(LinearSwiglu, BackwardIsTheGradientAndMayOverwriteItsInput) {
    const auto dy = input(dy_, shape().x()), w = input(down_, {in_, ffn_}),
               gu = input(gu_, {rows_, 2 * ffn_});
    const auto dgu = output({rows_, 2 * ffn_}), in_place = in_out(gu_, {rows_, 2 * ffn_});
    const auto scratch = output({rows_, ffn_}), out = output({rows_, ffn_}), want = output({rows_, ffn_});
    linear_swiglu_backward(ctx(), dgu, {}, scratch, dy, w, gu);
    linear_swiglu_backward(ctx(), in_place, out, out, dy, w, in_place);
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dy_, ref::linear(ref::swiglu(a[0], rows_, ffn_), a[1], rows_, ffn_, in_));
    };
    EXPECT_TRUE(is_gradient(dgu, loss, {gu_, down_}, 0));
    EXPECT_TRUE(same_bits(in_place, dgu));
    swiglu_forward(ctx(), want, gu);
    EXPECT_TRUE(same_bits(out, want));
}

TEST_P(LinearSwiglu, TwoRunsGiveTheSameBits) {
    const auto x = input(x_, shape().x()), w = input(w_, {2 * ffn_, in_}), down = input(down_, {in_, ffn_});
    const auto out = output({rows_, ffn_}), out_again = output({rows_, ffn_});
    const auto gu = output({rows_, 2 * ffn_}), gu_again = output({rows_, 2 * ffn_});
    for (const auto& [o, g] : {std::pair(&out, &gu), std::pair(&out_again, &gu_again)}) {
        linear_swiglu_forward(ctx(), *o, *g, x, w);
        linear_swiglu_backward(ctx(), *g, *o, *o, x, down, *g);
    }
    EXPECT_TRUE(same_bits(gu, gu_again));
    EXPECT_TRUE(same_bits(out, out_again));
}

TEST_P(LinearSwiglu, NaNStaysInItsRow) {
    for (const double nan : kinds_of_nan()) {
        std::vector<double> x(x_);
        ref::at(x, (rows_ - 1) * in_) = nan;
        const auto device_x = input(x, shape().x()), w = input(w_, {2 * ffn_, in_});
        const auto out = output({rows_, ffn_}), gu = output({rows_, 2 * ffn_});
        linear_swiglu_forward(ctx(), out, gu, device_x, w);
        const std::vector<double> made = out.values();
        for (int64_t i = 0; i < rows_ * ffn_; ++i)
            ASSERT_EQ(std::isnan(ref::at(made, i)), i / ffn_ == rows_ - 1) << i;
    }
}

TEST_P(LinearSwiglu, SaysWhyTheFusedKernelDoesNotRun) {
    const std::string text = linear_swiglu_fallback(ctx(), dtype(), in_, ffn_);
    const bool taken = in_ >= 705 && in_ % 8 == 0 && ffn_ % 8 == 0;
    EXPECT_EQ(linear_swiglu_takes(in_, ffn_), taken);
    // Devices with fp8 GEMMs are those with TMA.
    const bool device_has_kernel = dtype() == DType::kBF16 && has_fp8(ctx());
    EXPECT_EQ(text.find(fmt::format("no fused GEMM+SwiGLU kernel for widths {} and {}", in_, ffn_)) !=
                  std::string::npos,
              device_has_kernel && !taken)
        << text;
    EXPECT_EQ(text.empty(), !device_has_kernel || taken);
}

INSTANTIATE_TEST_SUITE_P(Ops, LinearSwiglu, every_target(kShapes), case_name<GatedShape>);

TEST(LinearSwigluFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor out = tensor({2, 3}), gu = tensor({2, 6}), x = tensor({2, 4}), w = tensor({6, 4});
    EXPECT_THROW(linear_swiglu_forward(ctx, tensor({2, 6}), gu, x, w), Error);
    EXPECT_THROW(linear_swiglu_forward(ctx, out, tensor({3, 6}), x, w), Error);
    EXPECT_THROW(linear_swiglu_forward(ctx, out, gu, x, tensor({4, 6})), Error);
    EXPECT_THROW(linear_swiglu_forward(ctx, out, gu, x, tensor({6, 4}, DType::kBF16)), Error);
    EXPECT_THROW(linear_swiglu_backward(ctx, gu, {}, out, x, tensor({3, 4}), gu), Error);
    EXPECT_THROW(linear_swiglu_backward(ctx, gu, {}, {}, x, tensor({4, 3}), gu), Error);
    EXPECT_THROW(linear_swiglu_backward(ctx, out, {}, out, x, tensor({4, 3}), gu), Error);
}

}  // namespace
}  // namespace pastur::test
