#include "kernels/fp8.h"

#include <bit>
#include <cmath>

#include "kernels/fp8_scale.h"
#include "tests/kernels/fp8_output.h"
#include "tests/ref/linear.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

/// Reference quantisation of x [rows, width], whose element (n, i) is x[n row_step + i step].
struct Quantized {
    std::vector<double> values, scales;
    Quantized(const std::vector<double>& x, int64_t rows, int64_t width, int64_t row_step, int64_t step) {
        for (int64_t n = 0; n < rows; ++n) {
            float largest = 0;
            const auto number = [&](int64_t i) {
                return static_cast<float>(ref::at(x, n * row_step + i * step));
            };
            for (int64_t i = 0; i < width; ++i) largest = std::fmax(largest, std::abs(number(i)));
            scales.push_back(static_cast<double>(largest / 448.0f));
            for (int64_t i = 0; i < width; ++i)
                values.push_back(static_cast<double>(to_float(to_f8e4m3(number(i) * (448.0f / largest)))));
        }
    }
};

struct QuantizationShape {
    int64_t rows, width;
    int64_t before = 0, after = 0;
    std::string name() const {
        return fmt::format("N{}_I{}{}", rows, width,
                           before + after ? fmt::format("_slice{}_{}", before, after) : "");
    }
    Layout x() const { return columns({rows, width}, before, after); }
};

/// The widest rows do not fit into the registers of a warp, of four warps and of eight warps.
const std::vector<QuantizationShape> kQuantizations = {
    {1, 1},           {7, 5},        {16, 16},   {33, 64},   {129, 31},         {3, 768},   {131, 769},
    {40, 96, 16, 48}, {9, 40, 3, 2}, {5, 2048},  {4, 4096},  {3, 5504},         {2, 12288}, {2, 12304},
    {3, 12301},       {700, 48},     {127, 130}, {516, 264}, {300, 520, 8, 16},
};
/// Sizes that occupy every multiprocessor of a GPU; some with more rows than all blocks can hold of one
/// column, and one with more columns than one launch quantises.
const std::vector<QuantizationShape> kLargeQuantizations = {
    {50000, 272}, {150016, 40}, {260016, 40}, {250001, 33}, {1030, 2400, 8, 16}, {2050, 1101}, {20, 33000}};

class Fp8Quantization : public OpTest<QuantizationShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
};

TEST_P(Fp8Quantization, RowsAreScaledByTheirLargestNumber) {
    const std::vector<double> numbers = normal(rows_ * width_, 3);
    const auto x = input(numbers, shape().x());
    const Fp8Output out(ctx(), rows_, width_);
    quantize_rows(ctx(), out, x);
    const Quantized want(numbers, rows_, width_, width_, 1);
    EXPECT_TRUE(same_values(out.scales, want.scales));
    EXPECT_TRUE(same_values(out.values, want.values));
}

class Fp8Columns : public Fp8Quantization {};

TEST_P(Fp8Columns, AreTheRowsOfTheTransposedMatrix) {
    const std::vector<double> numbers = normal(rows_ * width_, 0.02);
    const auto x = input(numbers, shape().x());
    const Fp8Output out(ctx(), width_, rows_);
    quantize_columns(ctx(), out, x);
    const Quantized want(numbers, width_, rows_, 1, width_);
    EXPECT_TRUE(same_values(out.scales, want.scales));
    EXPECT_TRUE(same_values(out.values, want.values));
}

class Fp8QuantizationEdges : public Fp8Quantization {};

TEST_P(Fp8QuantizationEdges, RowsOfZerosStayZeroAndNonFiniteNumbersStayInTheirRow) {
    std::vector<double> numbers = normal(rows_ * width_);
    for (int64_t i = 0; i < width_; ++i) ref::at(numbers, i) = 0;
    ref::at(numbers, 2 * width_ - 1) = NAN;
    ref::at(numbers, 2 * width_ + 1) = -INFINITY;
    const auto x = input(numbers, shape().x());
    const Fp8Output out(ctx(), rows_, width_);
    quantize_rows(ctx(), out, x);
    const std::vector<double> values = out.values.values(), scales = out.scales.values();
    int64_t nan_of_first = 0, nan_of_second = 0, nan_of_others = 0;
    for (int64_t n = 0; n < rows_; ++n)
        for (int64_t i = 0; i < width_; ++i) {
            const bool nan = std::isnan(ref::at(values, n * width_ + i) * ref::at(scales, n));
            (n == 1 ? nan_of_first : n == 2 ? nan_of_second : nan_of_others) += nan;
        }
    for (int64_t i = 0; i < width_; ++i) EXPECT_EQ(ref::at(values, i) * ref::at(scales, 0), 0) << i;
    EXPECT_EQ(nan_of_first, 1) << "NaN must stay NaN, which makes a sum over the row NaN";
    EXPECT_GE(nan_of_second, 1);
    EXPECT_EQ(nan_of_others, 0);
}

INSTANTIATE_TEST_SUITE_P(Ops, Fp8Quantization, every_target(kQuantizations), case_name<QuantizationShape>);
INSTANTIATE_TEST_SUITE_P(Ops, Fp8Columns, every_target(kQuantizations), case_name<QuantizationShape>);
INSTANTIATE_TEST_SUITE_P(OpsLarge, Fp8Columns, every_target(kLargeQuantizations),
                         case_name<QuantizationShape>);
INSTANTIATE_TEST_SUITE_P(Ops, Fp8QuantizationEdges,
                         every_target(std::vector<QuantizationShape>{
                             {4, 4}, {16, 17}, {5, 64, 8, 8}, {4, 2048}, {4, 5504}, {4, 12304}}),
                         case_name<QuantizationShape>);

struct GemmShape {
    int64_t rows, in, out;
    int64_t before = 0, after = 0;
    std::string name() const {
        return fmt::format("N{}_I{}_O{}{}", rows, in, out,
                           before + after ? fmt::format("_slice{}_{}", before, after) : "");
    }
    Layout x() const { return columns({rows, in}, before, after); }
    Layout y() const { return columns({rows, out}, before, after); }
};

const std::vector<GemmShape> kGemms = {
    {1, 16, 16},    {7, 32, 48},          {16, 16, 64},           {33, 64, 32},     {64, 128, 272},
    {129, 80, 112}, {48, 64, 96, 16, 32}, {31, 160, 128, 64, 16}, {256, 1040, 528}, {511, 512, 2048},
};

class Fp8Linear : public OpTest<GemmShape> {
  protected:
    const int64_t rows_ = shape().rows, in_ = shape().in, out_ = shape().out;
    const std::vector<double> x_ = outliers(rows_, in_), w_ = outliers(out_, in_);
    const std::vector<double> dy_ = outliers(rows_, out_);
    const std::vector<double> y_before_ = normal(rows_ * out_), dx_before_ = normal(rows_ * in_);

    void SetUp() override {
        if (!has_fp8(ctx())) GTEST_SKIP() << device_name(ctx()) << " has no fp8 GEMMs";
        reserve(std::max({fp8_linear_scratch_bytes(ctx(), rows_, out_, in_, false),
                          fp8_linear_scratch_bytes(ctx(), rows_, in_, out_, false),
                          fp8_weight_gradient_scratch_bytes(ctx(), rows_, out_, in_)}));
    }
    /// Rows of very different magnitude, as in activations. With one scale for all rows some would become 0.
    std::vector<double> outliers(int64_t rows, int64_t width) {
        std::vector<double> x = normal(rows * width);
        for (int64_t n = 0; n < rows; ++n)
            for (int64_t i = 0; i < width; ++i)
                ref::at(x, n * width + i) *= n % 5 == 3 ? 0x1p-12 : n % 7 == 1 ? 64 : 1;
        return x;
    }
    /// x, quantised and dequantised.
    static std::vector<double> dequantized(const std::vector<double>& x, int64_t rows, int64_t width,
                                           int64_t row_step, int64_t step) {
        const Quantized quantized(x, rows, width, row_step, step);
        std::vector<double> numbers;
        for (int64_t i = 0; i < rows * width; ++i)
            numbers.push_back(ref::at(quantized.values, i) * ref::at(quantized.scales, i / width));
        return numbers;
    }
    std::vector<double> expected_y() const {
        return ref::linear(dequantized(x_, rows_, in_, in_, 1), dequantized(w_, out_, in_, in_, 1), rows_,
                           in_, out_);
    }
    std::vector<double> expected_dx() const {
        return ref::linear(dequantized(dy_, rows_, out_, out_, 1), dequantized(w_, in_, out_, 1, in_), rows_,
                           out_, in_);
    }
    std::vector<double> expected_dw() const {
        return ref::linear(dequantized(dy_, out_, rows_, 1, out_), dequantized(x_, in_, rows_, 1, in_), out_,
                           rows_, in_);
    }
    /// Compares row by row, because each row has its own scale. The sums of a forward GEMM on a GPU have
    /// about 14 bits.
    void expect_rows(const DeviceTensor& got, const std::vector<double>& want) const {
        const int64_t width = got.shape()[1];
        const std::vector<double> values = got.values();
        for (int64_t n = 0; n < got.shape()[0]; ++n) {
            const auto row = [&](const std::vector<double>& x) {
                return std::span(x).subspan(static_cast<size_t>(n * width), static_cast<size_t>(width));
            };
            ASSERT_TRUE(close_to(row(values), row(want), on_cuda() ? DType::kBF16 : DType::kF32, {width}))
                << "row " << n;
        }
    }
    void quantize_weight_rows(const Fp8Output& out) const {
        quantize_rows(ctx(), out, input(w_, {out_, in_}));
    }
    void quantize_weight_columns(const Fp8Output& out) const {
        quantize_columns(ctx(), out, input(w_, {out_, in_}));
    }
};

TEST_P(Fp8Linear, ForwardMultipliesTheQuantisedNumbers) {
    const auto x = input(x_, shape().x()), y = output(shape().y());
    const auto sum = in_out(y_before_, shape().y());
    const Fp8Output w(ctx(), out_, in_);
    quantize_weight_rows(w);
    linear_forward(ctx(), y, x, w);
    linear_forward(ctx(), sum, x, w, sum);
    expect_rows(y, expected_y());
    expect_rows(sum, ref::add(expected_y(), y_before_));
}

TEST_P(Fp8Linear, BackwardInputMultipliesTheQuantisedNumbers) {
    const auto dy = input(dy_, shape().y()), dx = output(shape().x());
    const auto sum = in_out(dx_before_, shape().x());
    const Fp8Output w(ctx(), in_, out_);
    quantize_weight_columns(w);
    linear_backward_input(ctx(), dx, dy, w, Update::kAssign);
    linear_backward_input(ctx(), sum, dy, w, Update::kAccumulate);
    expect_rows(dx, expected_dx());
    expect_rows(sum, ref::add(expected_dx(), dx_before_));
}

TEST_P(Fp8Linear, TwoRunsGiveTheSameBits) {
    const auto x = input(x_, shape().x()), dy = input(dy_, shape().y());
    const auto y = output(shape().y()), y_again = output(shape().y());
    const auto dx = output(shape().x()), dx_again = output(shape().x());
    const Fp8Output rows(ctx(), out_, in_), columns(ctx(), in_, out_);
    quantize_weight_rows(rows);
    quantize_weight_columns(columns);
    for (const auto* run : {&y, &y_again}) linear_forward(ctx(), *run, x, rows);
    for (const auto* run : {&dx, &dx_again}) linear_backward_input(ctx(), *run, dy, columns, Update::kAssign);
    EXPECT_TRUE(same_bits(y, y_again));
    EXPECT_TRUE(same_bits(dx, dx_again));
}

INSTANTIATE_TEST_SUITE_P(Ops, Fp8Linear, every_target(kGemms), case_name<GemmShape>);

class Fp8WeightGradient : public Fp8Linear {};

TEST_P(Fp8WeightGradient, MultipliesTheQuantisedColumns) {
    const auto x = input(x_, shape().x()), dy = input(dy_, shape().y());
    const Layout layout{out_, in_};
    const std::vector<double> before = normal(out_ * in_);
    const auto dw = output(layout, DType::kF32), again = output(layout, DType::kF32);
    const auto sum = in_out(before, layout, DType::kF32);
    for (const auto* run : {&dw, &again}) linear_backward_weight_in_fp8(ctx(), *run, dy, x, Update::kAssign);
    linear_backward_weight_in_fp8(ctx(), sum, dy, x, Update::kAccumulate);
    expect_rows(dw, expected_dw());
    expect_rows(sum, ref::add(expected_dw(), before));
    EXPECT_TRUE(same_bits(dw, again));
}

/// Shapes for weight gradients, whose number of tokens must be a multiple of 16.
const std::vector<GemmShape> kWeightGradients = {
    {16, 16, 16},         {48, 32, 64},     {64, 128, 272},   {128, 80, 112},
    {48, 64, 96, 16, 32}, {256, 1040, 528}, {1024, 512, 256},
};
INSTANTIATE_TEST_SUITE_P(Ops, Fp8WeightGradient, every_target(kWeightGradients), case_name<GemmShape>);

TEST(Fp8LinearFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    reserve_scratch(ctx, 1 << 16);
    HostTensors tensor;
    const auto matrix = [&](int64_t rows, int64_t width) {
        return Fp8Rows{tensor({rows, width}, DType::kF8E4M3), tensor({rows}, DType::kF32)};
    };
    const Tensor x = tensor({4, 32}, DType::kF32), y = tensor({4, 16}, DType::kF32);
    EXPECT_NO_THROW(linear_forward(ctx, y, x, matrix(16, 32)));
    EXPECT_THROW(linear_forward(ctx, y, x, matrix(32, 16)), Error) << "weights are [out, in]";
    EXPECT_THROW(linear_forward(ctx, tensor({4, 8}, DType::kF32), x, matrix(8, 32)), Error);
    EXPECT_THROW(linear_forward(ctx, Tensor(y.bytes() + 4, DType::kF32, {4, 16}), x, matrix(16, 32)), Error);
    EXPECT_THROW(linear_forward(ctx, Tensor(y.bytes(), DType::kF32, {4, 16}, {17, 1}), x, matrix(16, 32)),
                 Error);
    EXPECT_THROW(quantize_rows(ctx, matrix(4, 16), x), Error);
    EXPECT_THROW(quantize_rows(ctx, {x, tensor({4}, DType::kF32)}, x), Error);
    EXPECT_THROW(quantize_columns(ctx, matrix(4, 32), x), Error) << "columns are [in, out]";
    EXPECT_NO_THROW(quantize_columns(ctx, matrix(32, 4), x));
    const Tensor dw = tensor({16, 32}, DType::kF32);
    EXPECT_NO_THROW(linear_backward_weight(ctx, dw, matrix(16, 16), matrix(32, 16), Update::kAssign));
    EXPECT_THROW(linear_backward_weight(ctx, dw, matrix(16, 16), matrix(32, 32), Update::kAssign), Error);
    EXPECT_THROW(linear_backward_weight(ctx, dw, matrix(16, 8), matrix(32, 8), Update::kAssign), Error)
        << "the number of tokens, 8, is not a multiple of 16";
}

}  // namespace
}  // namespace pastur::test
