#include "kernels/reduce.h"

#include <limits>

#include "tests/harness.h"
#include "tests/ref/vector.h"

namespace pastur::test {
namespace {

struct SumShape {
    int64_t count;
    std::string name() const { return fmt::format("n{}", count); }
};

const std::vector<SumShape> kShapes = {{1},    {2},    {7},    {31},   {33},    {127},   {257},
                                       {1023}, {1025}, {4099}, {8193}, {65537}, {500009}};

class Reduce : public OpTest<SumShape> {
  protected:
    const int64_t count_ = shape().count;
    const std::vector<double> x_ = normal(count_, 1.0);
    static constexpr double kBefore = -2.5;

    using Op = void (*)(Context&, Tensor, ConstTensor, Update);
    /// The op's number for x, added to kBefore where update says so.
    double run(Op op, const std::vector<double>& x, Update update) {
        const auto device_x = input(x, {count_});
        reserve(sum_scratch_bytes(ctx(), count_));
        if (update == Update::kAssign) {
            const auto result = output({1}, DType::kF64);
            op(ctx(), result, device_x, update);
            return result.values()[0];
        }
        const auto result = in_out({kBefore}, {1}, DType::kF64);
        op(ctx(), result, device_x, update);
        return result.values()[0];
    }
    /// sum x^power in long double, and the size of its terms.
    struct Exact {
        double value, terms;
    };
    Exact exact(int power) const {
        long double sum = 0, sizes = 0;
        for (double x : x_) {
            sum += power == 1 ? x : static_cast<long double>(x) * x;
            sizes += power == 1 ? std::abs(x) : x * x;
        }
        return {static_cast<double>(sum), static_cast<double>(sizes)};
    }
};

constexpr void (*kSum)(Context&, Tensor, ConstTensor, Update) = &sum;
constexpr void (*kSquares)(Context&, Tensor, ConstTensor, Update) = &sum_of_squares;

TEST_P(Reduce, MatchesReference) {
    const Exact plain = exact(1), squares = exact(2);
    const auto near = [](double got, double want, double terms) {
        return close_to(std::vector{got}, std::vector{want}, DType::kF64, {1}, terms);
    };
    EXPECT_TRUE(near(run(kSum, x_, Update::kAssign), plain.value, plain.terms));
    EXPECT_TRUE(near(run(kSum, x_, Update::kAccumulate), kBefore + plain.value, plain.terms));
    EXPECT_TRUE(near(run(kSquares, x_, Update::kAssign), squares.value, squares.terms));
    EXPECT_TRUE(near(run(kSquares, x_, Update::kAccumulate), kBefore + squares.value, squares.terms));
}

TEST_P(Reduce, TwoRunsGiveTheSameBits) {
    EXPECT_EQ(run(kSum, x_, Update::kAssign), run(kSum, x_, Update::kAssign));
    EXPECT_EQ(run(kSquares, x_, Update::kAssign), run(kSquares, x_, Update::kAssign));
}

TEST_P(Reduce, OneNonFiniteElementShowsWhereverItStands) {
    for (int64_t place : {int64_t{0}, count_ / 2, count_ - 1}) {
        std::vector<double> x(x_);
        ref::at(x, place) = std::numeric_limits<double>::quiet_NaN();
        EXPECT_TRUE(std::isnan(run(kSum, x, Update::kAssign))) << place;
        EXPECT_TRUE(std::isnan(run(kSquares, x, Update::kAssign))) << place;
        ref::at(x, place) = -std::numeric_limits<double>::infinity();
        EXPECT_EQ(run(kSum, x, Update::kAssign), -std::numeric_limits<double>::infinity()) << place;
        EXPECT_FALSE(std::isfinite(run(kSquares, x, Update::kAccumulate))) << place;
    }
}

TEST_P(Reduce, SquaresOfLargeNumbersDoNotOverflow) {
    const std::vector<double> x(static_cast<size_t>(count_), rounded(1e30, dtype()));
    const double want = static_cast<double>(count_) * x[0] * x[0];
    EXPECT_NEAR(run(kSquares, x, Update::kAssign) / want, 1, 1e-10);
}

TEST_P(Reduce, SmallTermsBesideALargeOneAreNotLost) {
    std::vector<double> x(static_cast<size_t>(count_), 1.0);
    x[0] = 1 << 26;  // in fp32 every further 1 would be rounded away
    EXPECT_EQ(run(kSum, x, Update::kAssign), static_cast<double>((1 << 26) + count_ - 1));
}

INSTANTIATE_TEST_SUITE_P(Ops, Reduce, every_target(kShapes), case_name<SumShape>);

TEST(ReduceFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(64);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    const Tensor x = tensor({8}), result = tensor({1}, DType::kF64);
    EXPECT_THROW(sum(ctx, tensor({1}), x, Update::kAssign), Error);
    EXPECT_THROW(sum(ctx, tensor({2}, DType::kF64), x, Update::kAssign), Error);
    EXPECT_THROW(sum(ctx, result, tensor({8}, DType::kI32), Update::kAssign), Error);
    EXPECT_THROW(sum_of_squares(ctx, tensor({1}), x, Update::kAssign), Error);
    EXPECT_THROW(sum_of_squares(ctx, result, Tensor(x.bytes(), DType::kF32, {4, 2}, {4, 1}), Update::kAssign),
                 Error);
}

}  // namespace
}  // namespace pastur::test
