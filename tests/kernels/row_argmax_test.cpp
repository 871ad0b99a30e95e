#include "kernels/row_argmax.h"

#include <cmath>

#include "tests/ref/vector.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct ArgmaxShape {
    int64_t rows, width;
    std::string name() const { return fmt::format("N{}_V{}", rows, width); }
};

class RowArgmax : public OpTest<ArgmaxShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    std::vector<double> x_ = normal(rows_ * width_);

    std::vector<double> run() const {
        const auto x = input(x_, columns({rows_, width_}, 1, 3));
        const auto ids = output(Layout{rows_}, DType::kI32);
        row_argmax(ctx(), ids, x);
        std::vector<int32_t> host(static_cast<size_t>(rows_));
        download(ctx(), as_tensor(std::span(host)), ids);
        return {host.begin(), host.end()};
    }
};

TEST_P(RowArgmax, IsTheFirstOfTheLargest) {
    std::vector<double> want;
    for (int64_t n = 0; n < rows_; ++n) {
        const auto begin = x_.begin() + n * width_;
        // The largest number occurs twice, unless there is one alone.
        *(begin + width_ / 3) = *(begin + width_ - 1) = 9;
        want.push_back(static_cast<double>(width_ / 3));
    }
    EXPECT_EQ(run(), want);
}

TEST_P(RowArgmax, MarksRowsThatAreNotFinite) {
    const std::vector<double> all = run();
    for (const double bad : {std::nan(""), HUGE_VAL}) {
        const std::vector<double> before(x_);
        ref::at(x_, rows_ * width_ - 1) = bad;
        std::vector<double> want(all);
        want.back() = -1;
        EXPECT_EQ(run(), want);
        x_ = before;
    }
    std::fill(x_.begin(), x_.end(), -HUGE_VAL);
    EXPECT_EQ(run(), std::vector<double>(static_cast<size_t>(rows_), -1));
    for (int64_t n = 0; n < rows_; ++n) ref::at(x_, n * width_ + width_ / 2) = -5;
    EXPECT_EQ(run(), std::vector<double>(static_cast<size_t>(rows_), static_cast<double>(width_ / 2)));
}

INSTANTIATE_TEST_SUITE_P(
    Ops, RowArgmax,
    every_target<ArgmaxShape>({{1, 1}, {3, 2}, {2, 7}, {5, 255}, {3, 257}, {2, 1000}, {70, 33}}),
    case_name<ArgmaxShape>);

TEST(RowArgmaxFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    EXPECT_THROW(row_argmax(ctx, tensor({2}, DType::kI32), tensor({3, 4})), Error);
    EXPECT_THROW(row_argmax(ctx, tensor({3}), tensor({3, 4})), Error);
    EXPECT_THROW(row_argmax(ctx, tensor({3}, DType::kI32), tensor({3, 4}, DType::kI32)), Error);
}

}  // namespace
}  // namespace pastur::test
