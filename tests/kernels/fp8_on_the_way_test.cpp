// Ops that round what they write: the bits of quantize_rows on it, and no other bit changed.
#include "kernels/fp8.h"
#include "kernels/rmsnorm.h"
#include "kernels/swiglu.h"
#include "tests/kernels/fp8_output.h"

namespace pastur::test {
namespace {

struct RowShape {
    int64_t rows, width;
    std::string name() const { return fmt::format("N{}_C{}", rows, width); }
};

/// Odd widths, every size of group, and rows beyond what registers keep.
const std::vector<RowShape> kShapes = {
    {1, 1},    {5, 17},   {9, 8},    {33, 64},   {131, 768}, {6, 1032}, {4, 2048},
    {7, 2056}, {3, 4104}, {3, 5504}, {2, 11008}, {2, 16392}, {700, 96}, {77, 384},
};

class Fp8OnTheWay : public OpTest<RowShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    /// got = quantize_rows(numbers).
    void expect_rounded(const Fp8Output& got, const DeviceTensor& numbers) const {
        const Fp8Output want(ctx(), numbers.shape()[0], numbers.shape()[1]);
        quantize_rows(ctx(), want, numbers);
        EXPECT_TRUE(same_bits(got.values, want.values));
        EXPECT_TRUE(same_bits(got.scales, want.scales));
    }
};

TEST_P(Fp8OnTheWay, Swiglu) {
    const Shape wide = {rows_, 2 * width_}, narrow = {rows_, width_};
    const auto gu = input(normal(rows_ * 2 * width_, 2), wide), dout = input(normal(rows_ * width_), narrow);
    const auto plain = output(narrow), out = output(narrow);
    const Fp8Output rounded(ctx(), rows_, width_);
    swiglu_forward(ctx(), plain, gu);
    swiglu_forward(ctx(), out, gu, rounded);
    EXPECT_TRUE(same_bits(out, plain));
    expect_rounded(rounded, out);

    const auto dgu_plain = output(wide), dgu = in_out(gu.values(), wide), again = output(narrow);
    const Fp8Output rounded_dgu(ctx(), rows_, 2 * width_);
    swiglu_backward(ctx(), dgu_plain, {}, dout, gu);
    swiglu_backward(ctx(), dgu, again, dout, dgu, rounded_dgu);
    EXPECT_TRUE(same_bits(dgu, dgu_plain));
    EXPECT_TRUE(same_bits(again, plain));
    expect_rounded(rounded_dgu, dgu);
}

TEST_P(Fp8OnTheWay, RmsNorm) {
    const Shape shape = {rows_, width_};
    const auto x = input(normal(rows_ * width_, 1.5), shape), dy = input(normal(rows_ * width_), shape);
    const std::vector<double> residual = normal(rows_ * width_);
    const auto weight = input(random_.normal(width_, DType::kF32, 0.3, 1), {width_}, DType::kF32);
    const auto plain = output(shape), out = output(shape), rstd = output({rows_}, DType::kF32);
    const Fp8Output rounded(ctx(), rows_, width_);
    rmsnorm_forward(ctx(), plain, rstd, x, weight, 1e-6f);
    rmsnorm_forward(ctx(), out, rstd, x, weight, 1e-6f, rounded);
    EXPECT_TRUE(same_bits(out, plain));
    expect_rounded(rounded, out);

    reserve(rmsnorm_backward_scratch_bytes(ctx(), rows_, width_));
    const auto dx_plain = in_out(residual, shape), dx = in_out(residual, shape), again = output(shape);
    const auto dweight_plain = output({width_}, DType::kF32), dweight = output({width_}, DType::kF32);
    const Fp8Output rounded_dx(ctx(), rows_, width_);
    rmsnorm_backward(ctx(), dx_plain, dweight_plain, {}, dy, x, rstd, weight, dx_plain, Update::kAssign);
    rmsnorm_backward(ctx(), dx, dweight, again, dy, x, rstd, weight, dx, Update::kAssign, rounded_dx);
    EXPECT_TRUE(same_bits(dx, dx_plain));
    EXPECT_TRUE(same_bits(dweight, dweight_plain));
    EXPECT_TRUE(same_bits(again, plain));
    expect_rounded(rounded_dx, dx);
}

INSTANTIATE_TEST_SUITE_P(Ops, Fp8OnTheWay, every_target(kShapes), case_name<RowShape>);

TEST(Fp8OnTheWayFront, RejectsRowsOfAnotherShape) {
    Context& ctx = context(Device::kCpu);
    alignas(256) static std::byte storage[1 << 12] = {};
    const auto tensor = [&](Shape shape, DType dtype) { return Tensor(storage, dtype, shape); };
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
    EXPECT_THROW(rmsnorm_backward(ctx, x, weight, {}, x, x, rstd, weight, {}, Update::kAssign, rows(4, 16)),
                 Error);
}

}  // namespace
}  // namespace pastur::test
