#include "kernels/reduce.h"

#include <limits>

#include "tests/ref/vector.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

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
    /// The result of the op for x; with kAccumulate, kBefore plus the sum.
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
    /// The sum of x^power in long double, and the sum of the absolute values of its terms.
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

TEST_P(Reduce, OneNonFiniteElementShowsAtAnyPosition) {
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

TEST_P(Reduce, SmallTermsAreNotLostNextToALargeOne) {
    std::vector<double> x(static_cast<size_t>(count_), 1.0);
    x[0] = 1 << 26;  // in fp32, adding 1 to it would not change it
    EXPECT_EQ(run(kSum, x, Update::kAssign), static_cast<double>((1 << 26) + count_ - 1));
}

TEST_P(Reduce, AppendedZerosDoNotChangeTheBitsOfPieces) {
    const int64_t pieces = (count_ + kSumPiece - 1) / kSumPiece;
    std::vector<double> x = random_.normal(pieces * kSumPiece, DType::kF32);
    const auto device_x = input(x, {pieces * kSumPiece}, DType::kF32);
    const auto sums = output({pieces}, DType::kF64);
    piece_sums_of_squares(ctx(), sums, device_x);
    std::vector<double> got = sums.values();
    for (size_t piece = 0; piece < got.size(); ++piece) {
        long double want = 0;
        for (size_t i = 0; i < kSumPiece; ++i) {
            const long double value = x[piece * kSumPiece + i];
            want += value * value;
        }
        EXPECT_NEAR(got[piece], static_cast<double>(want), 1e-12 * static_cast<double>(want));
    }
    std::vector<double> totals;
    for (const int64_t zeros : {0, 1, 300}) {
        got.resize(static_cast<size_t>(pieces + zeros));
        const auto total = output({1}, DType::kF64);
        sum(ctx(), total, input(got, {pieces + zeros}, DType::kF64), Update::kAssign);
        totals.push_back(total.values()[0]);
        EXPECT_EQ(totals.back(), totals.front());
    }
    const auto total = in_out({kBefore}, {1}, DType::kF64);
    sum(ctx(), total, input(got, {pieces + 300}, DType::kF64), Update::kAccumulate);
    EXPECT_NEAR(total.values()[0], kBefore + totals.front(), 1e-12 * totals.front());
}

TEST_P(Reduce, RowsAreAddedInAscendingOrder) {
    constexpr int64_t kRows = 3;
    // In fp32 the result depends on the order: (1 + 1e8) - 1e8 is 0, 1 + (1e8 - 1e8) is 1.
    std::vector<double> rows, before(static_cast<size_t>(count_), 1.0);
    for (const double value : {1e8, -1e8, 0.25}) rows.insert(rows.end(), static_cast<size_t>(count_), value);
    const auto x = input(rows, {kRows, count_}, DType::kF32);
    const auto assigned = output({count_}, DType::kF32);
    sum_rows(ctx(), assigned, x, Update::kAssign);
    EXPECT_TRUE(same_values(assigned, std::vector<double>(before.size(), 0.25)));
    const auto added = in_out(before, {count_}, DType::kF32);
    sum_rows(ctx(), added, x, Update::kAccumulate);
    EXPECT_TRUE(same_values(added, std::vector<double>(before.size(), 0.25)));
    const auto small = in_out(before, {count_}, DType::kF32);
    sum_rows(ctx(), small, input(std::vector<double>(before.size(), 2.0), {1, count_}, DType::kF32),
             Update::kAccumulate);
    EXPECT_TRUE(same_values(small, std::vector<double>(before.size(), 3.0)));
    // In bf16 the sum would be 256: it has eight bits.
    for (double& value : rows) value = std::abs(value) > 1 ? 256 : 1;
    const auto narrow = in_out(before, {count_}, DType::kF32);
    const auto bf16_rows = input(rows, {kRows, count_}, DType::kBF16);
    sum_rows(ctx(), narrow, bf16_rows, Update::kAccumulate);
    EXPECT_TRUE(same_values(narrow, std::vector<double>(before.size(), 514.0)));
    sum_rows(ctx(), narrow, bf16_rows, Update::kAssign);
    EXPECT_TRUE(same_values(narrow, std::vector<double>(before.size(), 513.0)));
}

INSTANTIATE_TEST_SUITE_P(Ops, Reduce, every_target(kShapes), case_name<SumShape>);

TEST(ReduceFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({8}), result = tensor({1}, DType::kF64);
    EXPECT_THROW(sum(ctx, tensor({1}), x, Update::kAssign), Error);
    EXPECT_THROW(sum(ctx, tensor({2}, DType::kF64), x, Update::kAssign), Error);
    EXPECT_THROW(sum(ctx, result, tensor({8}, DType::kI32), Update::kAssign), Error);
    EXPECT_THROW(sum_of_squares(ctx, tensor({1}), x, Update::kAssign), Error);
    EXPECT_THROW(sum_of_squares(ctx, result, Tensor(x.bytes(), DType::kF32, {4, 2}, {4, 1}), Update::kAssign),
                 Error);
    EXPECT_THROW(piece_sums_of_squares(ctx, result, x), Error);
    EXPECT_THROW(sum_rows(ctx, tensor({4}), tensor({2, 5}), Update::kAssign), Error);
    EXPECT_THROW(sum_rows(ctx, tensor({4}), x, Update::kAssign), Error);
}

}  // namespace
}  // namespace pastur::test
