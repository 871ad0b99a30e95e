#include "kernels/swiglu.h"

#include "tests/ref/swiglu.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct GateShape {
    int64_t rows, width;
    std::string name() const { return fmt::format("N{}_F{}", rows, width); }
};

const std::vector<GateShape> kShapes = {{1, 1},  {7, 1},   {1, 3},   {5, 17},
                                        {3, 64}, {3, 129}, {2, 344}, {33, 2731}};

class Swiglu : public OpTest<GateShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    const std::vector<double> gu_ = normal(rows_ * 2 * width_, 2.0);
    const std::vector<double> dout_ = normal(rows_ * width_);
};

TEST_P(Swiglu, ForwardMatchesReference) {
    const auto gu = input(gu_, {rows_, 2 * width_}), out = output({rows_, width_});
    swiglu_forward(ctx(), out, gu);
    EXPECT_TRUE(close_to(out, ref::swiglu(gu_, rows_, width_)));
}

TEST_P(Swiglu, BackwardIsTheGradientAndMayOverwriteItsInput) {
    const auto gu = input(gu_, {rows_, 2 * width_}), dout = input(dout_, {rows_, width_});
    const auto dgu = output({rows_, 2 * width_}), in_place = in_out(gu_, {rows_, 2 * width_});
    swiglu_backward(ctx(), dgu, {}, dout, gu);
    swiglu_backward(ctx(), in_place, {}, dout, in_place);
    const auto loss = [&](const ComplexArguments& a) {
        return ref::dot(dout_, ref::swiglu(a[0], rows_, width_));
    };
    EXPECT_TRUE(is_gradient(dgu, loss, {gu_}, 0));
    EXPECT_TRUE(same_bits(dgu, in_place));
}

TEST_P(Swiglu, BackwardRecomputesTheOutput) {
    const auto gu = input(gu_, {rows_, 2 * width_}), dout = input(dout_, {rows_, width_});
    const auto want = output({rows_, width_}), out = output({rows_, width_});
    const auto over_dout = in_out(dout_, {rows_, width_});
    const auto dgu_alone = output({rows_, 2 * width_}), dgu = output({rows_, 2 * width_}),
               dgu_over = output({rows_, 2 * width_});
    swiglu_forward(ctx(), want, gu);
    swiglu_backward(ctx(), dgu_alone, {}, dout, gu);
    swiglu_backward(ctx(), dgu, out, dout, gu);
    swiglu_backward(ctx(), dgu_over, over_dout, over_dout, gu);
    EXPECT_TRUE(same_bits(out, want));
    EXPECT_TRUE(same_bits(over_dout, want));
    EXPECT_TRUE(same_bits(dgu, dgu_alone));
    EXPECT_TRUE(same_bits(dgu_over, dgu_alone));
}

TEST_P(Swiglu, SaturatesWithoutOverflow) {
    // silu(-200) underflows to -0, and silu(200) is 200, although e^200 overflows fp32.
    std::vector<double> gu(gu_);
    for (int64_t n = 0; n < rows_; ++n)
        for (int64_t f = 0; f < width_; ++f) ref::at(gu, n * 2 * width_ + f) = (n + f) % 2 ? 200 : -200;
    const auto device_gu = input(gu, {rows_, 2 * width_}), dout = input(dout_, {rows_, width_});
    const auto out = output({rows_, width_}), dgu = output({rows_, 2 * width_});
    swiglu_forward(ctx(), out, device_gu);
    swiglu_backward(ctx(), dgu, {}, dout, device_gu);
    EXPECT_TRUE(close_to(out, ref::swiglu(gu, rows_, width_), 1e-3));
    for (double x : dgu.values()) ASSERT_TRUE(std::isfinite(x));
}

TEST_P(Swiglu, NaNStaysNaN) {
    for (double nan : kinds_of_nan()) {
        for (int64_t place : {int64_t{0}, width_}) {  // a number of gate, a number of up
            std::vector<double> gu(gu_);
            ref::at(gu, place) = nan;
            const auto device_gu = input(gu, {rows_, 2 * width_}), out = output({rows_, width_});
            swiglu_forward(ctx(), out, device_gu);
            EXPECT_TRUE(close_to(out, ref::swiglu(gu, rows_, width_))) << "NaN at " << place;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, Swiglu, every_target(kShapes), case_name<GateShape>);

TEST(SwigluFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    EXPECT_THROW(swiglu_forward(ctx, tensor({2, 4}), tensor({2, 7})), Error);
    EXPECT_THROW(swiglu_forward(ctx, tensor({3, 4}), tensor({2, 8})), Error);
    EXPECT_THROW(swiglu_forward(ctx, tensor({2, 4}, DType::kBF16), tensor({2, 8})), Error);
    EXPECT_THROW(swiglu_backward(ctx, tensor({2, 8}), {}, tensor({2, 8}), tensor({2, 8})), Error);
    EXPECT_THROW(swiglu_backward(ctx, tensor({2, 6}), {}, tensor({2, 4}), tensor({2, 8})), Error);
    EXPECT_THROW(swiglu_backward(ctx, tensor({2, 8}), tensor({2, 8}), tensor({2, 4}), tensor({2, 8})), Error);
}

}  // namespace
}  // namespace pastur::test
