// Ops that also quantise their output: the bits are those of quantize_rows, and no other output changes.
#include "kernels/fp8.h"
#include "kernels/rmsnorm.h"
#include "kernels/swiglu.h"
#include "tests/kernels/fp8_output.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct RowShape {
    int64_t rows, width;
    std::string name() const { return fmt::format("N{}_C{}", rows, width); }
};

/// Odd widths, every group size, and rows that do not fit into registers.
const std::vector<RowShape> kShapes = {
    {1, 1},    {5, 17},   {9, 8},    {33, 64},   {131, 768}, {6, 1032}, {4, 2048},
    {7, 2056}, {3, 4104}, {3, 5504}, {2, 11008}, {2, 16392}, {700, 96}, {77, 384},
};

class FusedQuantization : public OpTest<RowShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    /// got = quantize_rows(numbers).
    void expect_quantized(const Fp8Output& got, const DeviceTensor& numbers) const {
        const Fp8Output want(ctx(), numbers.shape()[0], numbers.shape()[1]);
        quantize_rows(ctx(), want, numbers);
        EXPECT_TRUE(same_bits(got.values, want.values));
        EXPECT_TRUE(same_bits(got.scales, want.scales));
    }
};

TEST_P(FusedQuantization, Swiglu) {
    const Shape wide = {rows_, 2 * width_}, narrow = {rows_, width_};
    const auto gu = input(normal(rows_ * 2 * width_, 2), wide), dout = input(normal(rows_ * width_), narrow);
    const auto plain = output(narrow), out = output(narrow);
    const Fp8Output quantized(ctx(), rows_, width_);
    swiglu_forward(ctx(), plain, gu);
    swiglu_forward(ctx(), out, gu, quantized);
    EXPECT_TRUE(same_bits(out, plain));
    expect_quantized(quantized, out);

    const auto dgu_plain = output(wide), dgu = in_out(gu.values(), wide), recomputed = output(narrow);
    const Fp8Output quantized_dgu(ctx(), rows_, 2 * width_);
    swiglu_backward(ctx(), dgu_plain, {}, dout, gu);
    swiglu_backward(ctx(), dgu, recomputed, dout, dgu, quantized_dgu);
    EXPECT_TRUE(same_bits(dgu, dgu_plain));
    EXPECT_TRUE(same_bits(recomputed, plain));
    expect_quantized(quantized_dgu, dgu);
}

TEST_P(FusedQuantization, RmsNorm) {
    const Shape shape = {rows_, width_};
    const auto x = input(normal(rows_ * width_, 1.5), shape), dy = input(normal(rows_ * width_), shape);
    const std::vector<double> residual = normal(rows_ * width_);
    const auto weight = input(random_.normal(width_, DType::kF32, 0.3, 1), {width_}, DType::kF32);
    const auto plain = output(shape), out = output(shape), rstd = output({rows_}, DType::kF32);
    const Fp8Output quantized(ctx(), rows_, width_);
    rmsnorm_forward(ctx(), plain, rstd, x, weight, 1e-6f);
    rmsnorm_forward(ctx(), out, rstd, x, weight, 1e-6f, quantized);
    EXPECT_TRUE(same_bits(out, plain));
    expect_quantized(quantized, out);

    reserve(rmsnorm_backward_scratch_bytes(ctx(), rows_, width_));
    const auto dx_plain = in_out(residual, shape), dx = in_out(residual, shape), recomputed = output(shape);
    const auto dweight_plain = output({width_}, DType::kF32), dweight = output({width_}, DType::kF32);
    const Fp8Output quantized_dx(ctx(), rows_, width_);
    RmsnormBackward p{.dx = dx_plain,
                      .dweight = dweight_plain,
                      .dweight_update = Update::kAssign,
                      .dy = dy,
                      .x = x,
                      .rstd = rstd,
                      .weight = weight,
                      .dresidual = dx_plain};
    rmsnorm_backward(ctx(), p);
    p.dx = dx, p.dresidual = dx, p.dweight = dweight, p.out = recomputed, p.quantized_dx = quantized_dx;
    rmsnorm_backward(ctx(), p);
    EXPECT_TRUE(same_bits(dx, dx_plain));
    EXPECT_TRUE(same_bits(dweight, dweight_plain));
    EXPECT_TRUE(same_bits(recomputed, plain));
    expect_quantized(quantized_dx, dx);
}

INSTANTIATE_TEST_SUITE_P(Ops, FusedQuantization, every_target(kShapes), case_name<RowShape>);

TEST(FusedQuantizationFront, RejectsRowsOfAnotherShape) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const auto rows = [&](int64_t count, int64_t width) {
        return Fp8Rows{tensor({count, width}, DType::kF8E4M3), tensor({count}, DType::kF32)};
    };
    const Tensor x = tensor({4, 32}, DType::kF32), gu = tensor({4, 64}, DType::kF32);
    const Tensor rstd = tensor({4}, DType::kF32), weight = tensor({32}, DType::kF32);
    EXPECT_NO_THROW(swiglu_forward(ctx, x, gu, rows(4, 32)));
    EXPECT_THROW(swiglu_forward(ctx, x, gu, rows(4, 64)), Error);
    EXPECT_THROW(swiglu_backward(ctx, gu, {}, x, gu, rows(4, 32)), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, rstd, x, weight, 1e-6f, rows(3, 32)), Error);
    EXPECT_THROW(rmsnorm_forward(ctx, x, rstd, x, weight, 1e-6f, {x, rstd}), Error);
    EXPECT_THROW(rmsnorm_backward(ctx, {.dx = x,
                                        .dweight = weight,
                                        .dweight_update = Update::kAssign,
                                        .dy = x,
                                        .x = x,
                                        .rstd = rstd,
                                        .weight = weight,
                                        .quantized_dx = rows(4, 16)}),
                 Error);
}

}  // namespace
}  // namespace pastur::test
