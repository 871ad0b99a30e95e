#include "kernels/attention/head_linear.h"

#include "tests/ref/head_linear.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct HeadLinearShape {
    int64_t rows, heads, in, out;
    int64_t around = 0;  ///< columns around every head of x and y, and rows of w after those of a head
    std::string name() const {
        return fmt::format("N{}_H{}_I{}_O{}{}", rows, heads, in, out, around ? "_around" : "");
    }
};

// The CUDA kernels have 8 rows per block and read 8 or 4 columns at a time if they are aligned.
const std::vector<HeadLinearShape> kShapes = {
    {1, 1, 1, 1}, {2, 3, 5, 7},     {8, 2, 32, 384},   {9, 12, 384, 64},  {17, 2, 33, 129},
    {3, 4, 8, 8}, {1, 2, 512, 130}, {7, 3, 64, 96, 8}, {5, 2, 24, 40, 3}, {2, 1, 1030, 1030},
};

class HeadLinear : public OpTest<HeadLinearShape> {
  protected:
    const int64_t rows_ = shape().rows, heads_ = shape().heads, in_ = shape().in, out_ = shape().out;
    const std::vector<double> x_ = normal(rows_ * heads_ * in_), w_ = normal(heads_ * in_ * out_);

    Layout rows_of(int64_t width) const {
        const int64_t head = width + 2 * shape().around;
        return Layout({rows_, heads_, width}, {heads_ * head, head, 1}, shape().around);
    }
    Layout w_layout(HeadMap map) const {
        const int64_t rows = map == HeadMap::kForward ? out_ : in_,
                      columns = map == HeadMap::kForward ? in_ : out_;
        return Layout({heads_, rows, columns}, {(rows + shape().around) * columns, columns, 1}, 0);
    }
};

TEST_P(HeadLinear, MatchesReference) {
    for (const HeadMap map : {HeadMap::kForward, HeadMap::kTransposed}) {
        const auto x = input(x_, rows_of(in_)), w = input(w_, w_layout(map)), y = output(rows_of(out_));
        head_linear(ctx(), y, x, w, map);
        EXPECT_TRUE(
            close_to(y, ref::head_linear(x_, w_, rows_, heads_, in_, out_, map == HeadMap::kTransposed)));
    }
}

TEST_P(HeadLinear, BitsOfARowDoNotDependOnTheOthers) {
    for (const HeadMap map : {HeadMap::kForward, HeadMap::kTransposed}) {
        const auto x = input(x_, rows_of(in_)), w = input(w_, w_layout(map));
        const auto all = output(rows_of(out_)), alone = output(rows_of(out_));
        head_linear(ctx(), all, x, w, map);
        for (int64_t n = 0; n < rows_; ++n)
            head_linear(ctx(), alone.view().slice(0, n, 1), x.view().slice(0, n, 1), w, map);
        EXPECT_TRUE(same_bits(all, alone));
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, HeadLinear, every_target(kShapes), case_name<HeadLinearShape>);

TEST(HeadLinearFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({2, 3, 4}), y = tensor({2, 3, 5}), w = tensor({3, 5, 4});
    EXPECT_THROW(head_linear(ctx, y, x, w, HeadMap::kTransposed), Error);
    EXPECT_THROW(head_linear(ctx, tensor({2, 2, 5}), x, w, HeadMap::kForward), Error);
    EXPECT_THROW(head_linear(ctx, tensor({1, 3, 5}), x, w, HeadMap::kForward), Error);
    EXPECT_THROW(head_linear(ctx, y, x, tensor({2, 5, 4}), HeadMap::kForward), Error);
    EXPECT_THROW(head_linear(ctx, y, x, tensor({3, 5, 4}, DType::kBF16), HeadMap::kForward), Error);
}

}  // namespace
}  // namespace pastur::test
