#include "kernels/columns.h"

#include "tests/support/expect_error.h"
#include "tests/support/harness.h"

namespace pastur::test {
namespace {

struct HeadsShape {
    int64_t batch, time, heads, width;
    int64_t gap = 0;  ///< columns between the heads of a token
    std::string name() const { return fmt::format("B{}_T{}_H{}_W{}_gap{}", batch, time, heads, width, gap); }
    Layout x() const {
        const int64_t head = width + gap, token = heads * head;
        return Layout({batch, time, heads, width}, {time * token, token, head, 1}, 0);
    }
};

class FlattenHeads : public OpTest<HeadsShape> {};

TEST_P(FlattenHeads, CopiesEveryNumber) {
    const HeadsShape& s = shape();
    const std::vector<double> values = normal(s.batch * s.time * s.heads * s.width);
    const auto x = input(values, s.x());
    const auto out = output(columns({s.batch * s.time, s.heads * s.width}, 3, 5), DType::kF32);
    flatten_heads(ctx(), out, x);
    EXPECT_TRUE(same_values(out, values));
}

INSTANTIATE_TEST_SUITE_P(
    Ops, FlattenHeads,
    every_target<HeadsShape>({{1, 1, 1, 1}, {2, 3, 5, 7, 2}, {1, 65, 1, 300}, {3, 70, 4, 33, 1}}),
    case_name<HeadsShape>);

struct MatrixShape {
    int64_t rows, width;
    std::string name() const { return fmt::format("N{}_W{}", rows, width); }
};

class CenterColumns : public OpTest<MatrixShape> {};

TEST_P(CenterColumns, SubtractsTheMeans) {
    const auto [rows, width] = shape();
    // A mean far from zero would be lost in fp32 sums.
    std::vector<double> values = random_.normal(rows * width, DType::kF32, 1, 1000);
    const auto x = in_out(values, {rows, width}, DType::kF32),
               again = in_out(values, {rows, width}, DType::kF32);
    center_columns(ctx(), x);
    center_columns(ctx(), again);
    EXPECT_TRUE(same_bits(x, again));
    for (int64_t i = 0; i < width; ++i) {
        double mean = 0;
        for (int64_t n = 0; n < rows; ++n) mean += values[static_cast<size_t>(n * width + i)];
        mean /= static_cast<double>(rows);
        for (int64_t n = 0; n < rows; ++n) values[static_cast<size_t>(n * width + i)] -= mean;
    }
    EXPECT_TRUE(close_to(x, values, 1));
}

INSTANTIATE_TEST_SUITE_P(Ops, CenterColumns,
                         every_backend<MatrixShape>({{1, 1}, {2, 31}, {7, 33}, {1000, 65}, {2049, 130}}),
                         case_name<MatrixShape>);

TEST(ColumnsFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    std::vector<float> storage(64);
    const auto tensor = [&](Shape shape, DType dtype = DType::kF32) {
        return Tensor(reinterpret_cast<std::byte*>(storage.data()), dtype, shape);
    };
    EXPECT_THROW(flatten_heads(ctx, tensor({6, 8}), tensor({2, 3, 2, 5})), Error);
    EXPECT_THROW(flatten_heads(ctx, tensor({5, 10}), tensor({2, 3, 2, 5})), Error);
    EXPECT_THROW(flatten_heads(ctx, tensor({6, 10}, DType::kBF16), tensor({2, 3, 2, 5})), Error);
    EXPECT_THROW(center_columns(ctx, tensor({2, 8}).slice(1, 0, 4)), Error);
    EXPECT_THROW(center_columns(ctx, tensor({2, 8}, DType::kI32)), Error);
}

}  // namespace
}  // namespace pastur::test
