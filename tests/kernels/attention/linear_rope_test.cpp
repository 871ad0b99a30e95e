#include "kernels/attention/linear_rope.h"

#include "kernels/attention/rope.h"
#include "kernels/fp8.h"
#include "kernels/matmul.h"
#include "tests/ref/linear.h"
#include "tests/ref/rope.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct RotatedShape {
    int64_t batch, time, in, heads, dim, rest;  ///< rest: outputs after the rotated heads
    int64_t before = 0, after = 0;              ///< columns of the wider rows that x and y are slices of
    int64_t rows() const { return batch * time; }
    int64_t out() const { return heads * dim + rest; }
    std::string name() const {
        return fmt::format("B{}_T{}_I{}_H{}_D{}_rest{}{}", batch, time, in, heads, dim, rest,
                           before + after ? fmt::format("_slice{}_{}", before, after) : "");
    }
    Layout x() const { return columns({rows(), in}, before, after); }
    Layout y() const { return columns({rows(), out()}, before, after); }
};

// On Hopper the fused kernel runs from 705 columns of x on, in multiples of 8, with heads of 64 or 128, if
// the outputs fill at least 95 % of its tiles of 256 columns.
const std::vector<RotatedShape> kShapes = {
    {1, 1, 3, 1, 2, 0},         {2, 7, 16, 3, 8, 5},
    {1, 129, 64, 2, 64, 64},    {2, 150, 712, 3, 64, 64},
    {1, 257, 768, 6, 64, 128},  {5, 33, 840, 7, 64, 56},
    {300, 1, 768, 4, 64, 0},    {3, 70, 768, 5, 64, 192, 8, 24},
    {1, 40, 768, 8, 32, 0},     {2, 131, 776, 2, 128, 256},
    {1, 300, 768, 3, 128, 384}, {7, 19, 712, 5, 128, 120, 8, 0},
};

class LinearRope : public OpTest<RotatedShape> {
  protected:
    static constexpr double kBase = 10000.0;
    const RotatedShape n_ = shape();
    const std::vector<double> x_ = normal(n_.rows() * n_.in),
                              w_ = normal(n_.out() * n_.in, 1 / std::sqrt(n_.in));

    /// Longer than the sequence, as when a model reads sequences shorter than its limit.
    DeviceTensor table() const {
        std::vector<float> values(static_cast<size_t>((n_.time + 3) * n_.dim));
        rope_table(as_tensor(std::span(values)).reshape({n_.time + 3, n_.dim}), kBase);
        return input(std::vector<double>(values.begin(), values.end()), {n_.time + 3, n_.dim}, DType::kF32);
    }
};

TEST_P(LinearRope, MatchesThePairOfOps) {
    const auto x = input(x_, n_.x()), w = input(w_, {n_.out(), n_.in});
    const auto y = output(n_.y()), again = output(n_.y()), separate = output(n_.y());
    const auto angles = table();
    const HeadRotation rotation{angles, n_.heads, n_.time};
    linear_rope_forward(ctx(), y, x, w, rotation);
    linear_rope_forward(ctx(), again, x, w, rotation);
    EXPECT_TRUE(same_bits(y, again));

    std::vector<double> want = ref::linear(x_, w_, n_.rows(), n_.in, n_.out());
    std::vector<double> heads;
    const auto visit = [&](const auto& run) {
        for (int64_t row = 0; row < n_.rows(); ++row)
            for (int64_t c = 0; c < n_.heads * n_.dim; ++c) run(ref::at(want, row * n_.out() + c));
    };
    visit([&](double& number) { heads.push_back(number); });
    heads = ref::rope(heads, n_.batch, n_.time, n_.heads, n_.dim, kBase, 1);
    size_t next = 0;
    visit([&](double& number) { number = heads[next++]; });
    EXPECT_TRUE(close_to(y, want));

    linear_forward(ctx(), separate, x, w);
    const Tensor rotated = Tensor(separate)
                               .slice(1, 0, n_.heads * n_.dim)
                               .unflatten(0, n_.batch, n_.time)
                               .unflatten(2, n_.heads, n_.dim);
    rope(ctx(), rotated, rotated, angles, Rotation::kForward);
    EXPECT_TRUE(same_bits(y, separate));
}

TEST_P(LinearRope, SaysWhyTheFusedKernelDoesNotRun) {
    const auto x = input(x_, n_.x()), w = input(w_, {n_.out(), n_.in}), y = output(n_.y());
    const bool fits = n_.in >= 705 && n_.in % 8 == 0 && (n_.dim == 64 || n_.dim == 128);
    EXPECT_EQ(linear_rope_takes(n_.in, n_.out(), n_.dim), fits);
    // Devices with fp8 GEMMs are those with TMA.
    const bool device_has_kernel = dtype() == DType::kBF16 && has_fp8(ctx());
    EXPECT_EQ(has_linear_rope(ctx(), y, x, w, {table(), n_.heads, n_.time}), device_has_kernel && fits);
    const std::string text = linear_rope_fallback(ctx(), dtype(), n_.in, n_.out(), n_.dim);
    EXPECT_EQ(text.find(fmt::format("no fused GEMM+RoPE kernel for {} outputs from {} columns in heads of {}",
                                    n_.out(), n_.in, n_.dim)) != std::string::npos,
              device_has_kernel && !fits)
        << text;
    EXPECT_EQ(text.empty(), !device_has_kernel || fits);
}

TEST(LinearRopeFront, TakesMatricesThatFillItsTiles) {
    EXPECT_TRUE(linear_rope_takes(768, 2304, 64));
    EXPECT_TRUE(linear_rope_takes(4096, 12288, 128));
    EXPECT_FALSE(linear_rope_takes(768, 1184, 64)) << "the last tile of 256 columns has 160";
    EXPECT_FALSE(linear_rope_takes(768, 2304, 96));
    EXPECT_FALSE(linear_rope_takes(704, 2304, 64));
}

INSTANTIATE_TEST_SUITE_P(Ops, LinearRope, every_target(kShapes), case_name<RotatedShape>);

TEST(LinearRopeFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor y = tensor({6, 16}), x = tensor({6, 4}), w = tensor({16, 4}), table = tensor({3, 8});
    linear_rope_forward(ctx, y, x, w, {table, 2, 3});
    EXPECT_THROW(linear_rope_forward(ctx, y, x, w, {table, 3, 3}), Error)
        << "three heads of 8 columns do not fit into 16";
    EXPECT_THROW(linear_rope_forward(ctx, y, x, w, {table, 2, 4}), Error) << "positions beyond the table";
    EXPECT_THROW(linear_rope_forward(ctx, y, x, w, {tensor({4, 8}), 2, 4}), Error) << "6 rows in fours";
    EXPECT_THROW(linear_rope_forward(ctx, y, x, w, {{}, 2, 3}), Error);
    EXPECT_THROW(linear_rope_forward(ctx, y, tensor({6, 5}), w, {table, 2, 3}), Error);
}

}  // namespace
}  // namespace pastur::test
