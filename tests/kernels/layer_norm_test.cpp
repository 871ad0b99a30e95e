#include "kernels/layer_norm.h"

#include <limits>

#include "tests/ref/layer_norm.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

constexpr float kEps = 1e-5f;

struct NormShape {
    int64_t rows, width;
    int64_t before = 0, after = 0;  ///< x, dy and dx are slices of rows with so many more columns
    double offset = 0;              ///< mean of x
    std::string name() const {
        return fmt::format("N{}_C{}{}{}", rows, width,
                           before + after ? fmt::format("_in{}", before + width + after) : "",
                           offset != 0 ? "_offset" : "");
    }
    Layout rows_layout() const { return columns({rows, width}, before, after); }
};

const std::vector<NormShape> kShapes = {
    {1, 2},         {7, 1},    {1, 3},    {5, 3},    {3, 17},           {7, 129},           {33, 64},
    {2, 768},       {5, 509},  {3, 2049}, {300, 40}, {4, 7, 3, 5},      {6, 64, 0, 32},     {9, 192, 192, 64},
    {3, 129, 1, 0}, {1031, 8}, {77, 384}, {4, 4104}, {6, 384, 768, 32}, {12, 96, 0, 0, 30},
};

class LayerNorm : public OpTest<NormShape> {
  protected:
    const int64_t rows_ = shape().rows, width_ = shape().width;
    const std::vector<double> x_ = random_.normal(rows_ * width_, dtype(), 1.5, shape().offset);
    const std::vector<double> weight_ = random_.normal(width_, DType::kF32, 0.3, 1.0);
    const std::vector<double> bias_ = random_.normal(width_, DType::kF32, 0.3);
    const std::vector<double> dy_ = normal(rows_ * width_);
    const std::vector<double> before_ =
        random_.normal(width_, DType::kF32);  ///< of dweight and dbias before +=

    /// sum dy layer_norm(x, weight, bias) + before_scale sum before (weight + bias).
    auto loss(double before_scale) const {
        return [=, this](const ComplexArguments& a) {
            return ref::dot(dy_, ref::layer_norm(a[0], a[1], a[2], rows_, width_, kEps)) +
                   before_scale * (ref::dot(before_, a[1]) + ref::dot(before_, a[2]));
        };
    }
    DeviceTensor moment(const std::vector<double>& values) const {
        std::vector<double> numbers(values);
        for (double& number : numbers) number = rounded(number, DType::kF32);
        return input(numbers, {rows_}, DType::kF32);
    }
    void backward(Tensor dx, Tensor dweight, Tensor dbias, ConstTensor dy, Update update) {
        const ref::RowMoments<double> moments = ref::row_moments(x_, rows_, width_, kEps);
        const auto x = input(x_, shape().rows_layout()), weight = input(weight_, {width_}, DType::kF32);
        const auto mean = moment(moments.mean), rstd = moment(moments.rstd);
        reserve(layer_norm_backward_scratch_bytes(ctx(), rows_, width_));
        layer_norm_backward(ctx(), {.dx = dx,
                                    .dweight = dweight,
                                    .dbias = dbias,
                                    .update = update,
                                    .dy = dy,
                                    .x = x,
                                    .mean = mean,
                                    .rstd = rstd,
                                    .weight = weight});
    }
};

TEST_P(LayerNorm, ForwardMatchesReference) {
    const auto x = input(x_, shape().rows_layout()), weight = input(weight_, {width_}, DType::kF32);
    const auto bias = input(bias_, {width_}, DType::kF32);
    const auto out = output(shape().rows_layout()), mean = output({rows_}, DType::kF32);
    const auto rstd = output({rows_}, DType::kF32);
    layer_norm_forward(ctx(), out, mean, rstd, x, weight, bias, kEps);
    const ref::RowMoments<double> moments = ref::row_moments(x_, rows_, width_, kEps);
    EXPECT_TRUE(close_to(out, ref::layer_norm(x_, weight_, bias_, rows_, width_, kEps)));
    EXPECT_TRUE(close_to(mean, moments.mean, 1.5));
    EXPECT_TRUE(close_to(rstd, moments.rstd));
}

TEST_P(LayerNorm, BackwardIsTheGradient) {
    const auto dx = output(shape().rows_layout()), dy = input(dy_, shape().rows_layout());
    const auto dweight = output({width_}, DType::kF32), dbias = output({width_}, DType::kF32);
    backward(dx, dweight, dbias, dy, Update::kAssign);
    // Few columns leave two constraints and no freedom: the gradient vanishes up to eps, but its terms do
    // not.
    const double terms = width_ <= 3 ? 1.0 : 0.0;
    if (width_ >
        1) {  // a row of one column has rstd 1 / sqrt(eps), by which the two terms that cancel are scaled
        EXPECT_TRUE(is_gradient(dx, loss(0), {x_, weight_, bias_}, 0, {.terms = terms}));
    }
    EXPECT_TRUE(is_gradient(dweight, loss(0), {x_, weight_, bias_}, 1, {.terms = terms}));
    EXPECT_TRUE(is_gradient(dbias, loss(0), {x_, weight_, bias_}, 2));
}

TEST_P(LayerNorm, BackwardAccumulates) {
    const auto dx = output(shape().rows_layout()), dy = input(dy_, shape().rows_layout());
    const auto dweight = in_out(before_, {width_}, DType::kF32),
               dbias = in_out(before_, {width_}, DType::kF32);
    backward(dx, dweight, dbias, dy, Update::kAccumulate);
    EXPECT_TRUE(is_gradient(dweight, loss(1), {x_, weight_, bias_}, 1));
    EXPECT_TRUE(is_gradient(dbias, loss(1), {x_, weight_, bias_}, 2));
}

TEST_P(LayerNorm, BackwardInPlaceGivesTheSameBits) {
    const auto dx = output(shape().rows_layout()), dy = input(dy_, shape().rows_layout());
    const auto in_place = in_out(dy_, shape().rows_layout());
    const auto dweight = output({width_}, DType::kF32), dbias = output({width_}, DType::kF32);
    const auto dweight_again = output({width_}, DType::kF32), dbias_again = output({width_}, DType::kF32);
    backward(dx, dweight, dbias, dy, Update::kAssign);
    backward(in_place, dweight_again, dbias_again, in_place, Update::kAssign);
    EXPECT_TRUE(same_bits(dx, in_place));
    EXPECT_TRUE(same_bits(dweight, dweight_again)) << "the order of dweight's sum is not fixed";
    EXPECT_TRUE(same_bits(dbias, dbias_again)) << "the order of dbias's sum is not fixed";
}

TEST_P(LayerNorm, NonFiniteVariancesMakeTheirOwnRowNaN) {
    std::vector<double> kinds = kinds_of_nan();
    for (const double large : {1e20, -3e38})  // finite, but not their squares in fp32
        kinds.push_back(rounded(large, dtype()));
    kinds.push_back(std::numeric_limits<double>::infinity());
    if (width_ == 1) kinds.resize(1);  // a row of one column has no variance
    for (double kind : kinds) {
        std::vector<double> damaged(x_);
        damaged.back() = kind;
        const auto x = input(damaged, shape().rows_layout()), weight = input(weight_, {width_}, DType::kF32);
        const auto bias = input(bias_, {width_}, DType::kF32);
        const auto out = output(shape().rows_layout()), mean = output({rows_}, DType::kF32);
        const auto rstd = output({rows_}, DType::kF32);
        layer_norm_forward(ctx(), out, mean, rstd, x, weight, bias, kEps);
        const std::vector<double> rows = out.values();
        for (int64_t i = 0; i < rows_ * width_; ++i)
            ASSERT_EQ(std::isnan(ref::at(rows, i)), i / width_ == rows_ - 1) << kind << " at " << i;
        EXPECT_TRUE(std::isnan(rstd.values().back())) << kind;
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, LayerNorm, every_target(kShapes), case_name<NormShape>);

TEST(LayerNormFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor x = tensor({2, 8}), moment = tensor({2}), vector = tensor({8});
    const auto forward = [&](Tensor out, Tensor mean, Tensor rstd, Tensor in, Tensor weight, Tensor bias) {
        layer_norm_forward(ctx, out, mean, rstd, in, weight, bias, kEps);
    };
    EXPECT_NO_THROW(forward(x, moment, moment, x, vector, vector));
    EXPECT_THROW(forward(tensor({2, 7}), moment, moment, x, vector, vector), Error);
    EXPECT_THROW(forward(x, tensor({3}), moment, x, vector, vector), Error);
    EXPECT_THROW(forward(x, moment, tensor({3}), x, vector, vector), Error);
    EXPECT_THROW(forward(x, moment, moment, tensor({16}), vector, vector), Error);
    EXPECT_THROW(forward(x, moment, moment, x, tensor({7}), vector), Error);
    EXPECT_THROW(forward(x, moment, moment, x, vector, tensor({8}, DType::kBF16)), Error);
    EXPECT_THROW(forward(tensor({2, 8}, DType::kBF16), moment, moment, x, vector, vector), Error);
    const LayerNormBackward fits{.dx = x,
                                 .dweight = vector,
                                 .dbias = vector,
                                 .update = Update::kAssign,
                                 .dy = x,
                                 .x = x,
                                 .mean = moment,
                                 .rstd = moment,
                                 .weight = vector};
    reserve_scratch(ctx, layer_norm_backward_scratch_bytes(ctx, 2, 8));
    EXPECT_NO_THROW(layer_norm_backward(ctx, fits));
    const auto expect_rejected = [&](auto LayerNormBackward::*argument, Tensor other) {
        LayerNormBackward wrong = fits;
        wrong.*argument = other;
        EXPECT_THROW(layer_norm_backward(ctx, wrong), Error) << describe(other);
    };
    expect_rejected(&LayerNormBackward::dx, tensor({2, 8}, DType::kBF16));
    expect_rejected(&LayerNormBackward::dweight, tensor({7}));
    expect_rejected(&LayerNormBackward::dbias, tensor({7}));
    expect_rejected(&LayerNormBackward::dy, tensor({3, 8}));
    expect_rejected(&LayerNormBackward::mean, tensor({3}));
    expect_rejected(&LayerNormBackward::rstd, tensor({3}));
    expect_rejected(&LayerNormBackward::weight, tensor({7}));
}

}  // namespace
}  // namespace pastur::test
