#include "kernels/optimizer/muon.h"

#include <lapacke.h>

#include <limits>

#include "tests/ref/muon.h"
#include "tests/support/harness.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct MuonShape {
    int64_t rows, columns;
    int64_t rank = 0;  ///< of the gradient and of the momentum, half of their sum's; 0: full
    float weight_decay = 0, max_norm = 0;
    double scale = 1;  ///< of the gradient and the momentum
    std::string name() const {
        return fmt::format("{}x{}{}{}{}{}", rows, columns, rank > 0 ? fmt::format("_rank{}", rank) : "",
                           weight_decay > 0 ? "_decay" : "", max_norm > 0 ? "_clipped" : "",
                           scale > 1   ? "_huge"
                           : scale < 1 ? "_tiny"
                                       : "");
    }
    int64_t shorter() const { return std::min(rows, columns); }
};

const std::vector<MuonShape> kShapes = {{1, 1},
                                        {1, 37},
                                        {37, 1},
                                        {2, 2},
                                        {7, 13},
                                        {13, 7},
                                        {31, 31},
                                        {33, 129},
                                        {129, 33},
                                        {257, 64},
                                        {8, 264},
                                        {24, 40, 1},
                                        {67, 41, 5},
                                        {29, 53, 0, 0.1f},
                                        {64, 48, 0, 0.1f, 1.0f},
                                        {17, 19, 0, 0, 0, 1e-25},
                                        {23, 11, 0, 0, 0, 1e15}};

/// Singular values of a row-major matrix in descending order; u [rows, k] and vt [k, columns], k the shorter
/// side.
struct Svd {
    std::vector<double> values, u, vt;
    Svd(std::vector<double> matrix, int64_t rows, int64_t columns) {
        const int64_t k = std::min(rows, columns);
        values.resize(static_cast<size_t>(k));
        u.resize(static_cast<size_t>(rows * k));
        vt.resize(static_cast<size_t>(k * columns));
        std::vector<double> superdiagonal(static_cast<size_t>(k));
        const auto n = [](int64_t value) { return static_cast<lapack_int>(value); };
        EXPECT_EQ(LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'S', 'S', n(rows), n(columns), matrix.data(), n(columns),
                                 values.data(), u.data(), n(k), vt.data(), n(columns), superdiagonal.data()),
                  0);
    }
    double norm() const {
        double sum = 0;
        for (const double value : values) sum += value * value;
        return std::sqrt(sum);
    }
};

double norm_of(const std::vector<double>& x) {
    double sum = 0;
    for (const double value : x) sum += value * value;
    return std::sqrt(sum);
}

double relative_error(const std::vector<double>& got, const std::vector<double>& want) {
    std::vector<double> error(got);
    for (size_t i = 0; i < error.size(); ++i) error[i] -= want[i];
    return norm_of(error) / norm_of(want);
}

class Muon : public OpTest<MuonShape> {
  protected:
    static constexpr float kLr = 0.5f;
    const int64_t rows_ = shape().rows, columns_ = shape().columns, count_ = rows_ * columns_;
    const Shape extents_ = {rows_, columns_};
    const double sum_squares_ = 9;
    const ref::MuonState start_ = {rows_, columns_, values(), matrix()};
    const std::vector<double> grad_ = matrix();

    /// As fp32 holds it, also where the GEMMs are in bf16.
    std::vector<double> values() { return random_.normal(count_, DType::kF32); }
    std::vector<double> matrix() {
        if (shape().rank == 0) return random_.normal(count_, DType::kF32, shape().scale);
        const std::vector<double> a = random_.normal(rows_ * shape().rank, DType::kF32),
                                  b = random_.normal(columns_ * shape().rank, DType::kF32);
        std::vector<double> product = ref::times_transposed(a, b, rows_, columns_, shape().rank);
        for (double& x : product) x = rounded(x, DType::kF32);
        return product;
    }
    MuonParams params() const { return {kLr, 0.95f, shape().weight_decay, shape().max_norm, dtype()}; }
    ref::MuonSettings settings() const {
        const MuonParams p = params();
        return {p.lr, static_cast<double>(p.momentum), p.weight_decay, p.max_norm};
    }
    /// Largest error of a singular value of the update, and of the update relative to its norm: measured
    /// 1.5e-6 in fp32 and 0.02 in bf16.
    double tolerance() const { return dtype() == DType::kBF16 ? 0.04 : 1e-5; }
    /// The steps multiply rounding errors in the null space of the direction by 485: measured 3e-5 and 0.8.
    double error_tolerance() const {
        if (shape().rank == 0) return tolerance();
        return dtype() == DType::kBF16 ? 1.0 : 1e-4;
    }

    struct Tensors {
        DeviceTensor param, momentum, compute;
        std::vector<double> param_before;
    };
    Tensors tensors(const Layout& layout) const {
        return {in_out(start_.param, layout, DType::kF32), in_out(start_.momentum, layout, DType::kF32),
                output(layout, DType::kBF16), start_.param};
    }
    Tensors tensors() const { return tensors(extents_); }
    void step(const Tensors& state, const std::vector<double>& grad, const Layout& layout, double sum_squares,
              double loss = 3) const {
        reserve(muon_scratch_bytes(rows_, columns_, dtype()));
        const auto gradient = input(grad, layout, DType::kF32);
        const auto sums = input({sum_squares, loss}, {2}, DType::kF64);
        muon_step(ctx(), {state.param, state.momentum, state.compute, gradient}, sums, params());
    }
    void step(const Tensors& state) const { step(state, grad_, extents_, sum_squares_); }
    /// The orthogonalised matrix: the change of the parameter without weight decay, size and learning rate.
    std::vector<double> update_of(const std::vector<double>& after) const {
        std::vector<double> update(after);
        const double size = 0.2 * std::sqrt(static_cast<double>(std::max(rows_, columns_)));
        for (size_t i = 0; i < update.size(); ++i)
            update[i] = ((start_.param[i] - after[i]) / kLr - shape().weight_decay * start_.param[i]) / size;
        return update;
    }
    std::vector<double> direction() const {
        ref::MuonState state = start_;
        return ref::muon_direction(state, grad_, sum_squares_, settings());
    }
    void expect_nothing_changes(double sum_squares, double loss) const {
        const Tensors state = tensors(), untouched = tensors();
        std::vector<double> grad = grad_;
        grad[0] = std::numeric_limits<double>::quiet_NaN();
        step(state, grad, extents_, sum_squares, loss);
        EXPECT_TRUE(same_bits(state.param, untouched.param));
        EXPECT_TRUE(same_bits(state.momentum, untouched.momentum));
        EXPECT_TRUE(same_bits(state.compute, untouched.compute));
    }
};

TEST_P(Muon, StepMatchesReference) {
    const Tensors state = tensors();
    step(state);
    ref::MuonState want = start_;
    ref::muon(want, grad_, sum_squares_, settings());
    EXPECT_TRUE(close_to(state.momentum, want.momentum));
    EXPECT_LT(relative_error(update_of(state.param.values()), update_of(want.param)), error_tolerance());
    std::vector<double> compute = state.param.values();
    for (double& x : compute) x = rounded(x, DType::kBF16);
    EXPECT_TRUE(same_values(state.compute, compute));
}

/// The singular vectors stay, and the singular values move by the polynomial: all of at least 0.0015 of the
/// norm to between 0.68 and 1.21.
TEST_P(Muon, UpdateIsOrthogonalToTheStatedTolerance) {
    const Tensors state = tensors();
    step(state);
    const std::vector<double> update = update_of(state.param.values());
    const Svd direction(this->direction(), rows_, columns_), svd(update, rows_, columns_);
    std::vector<double> want = direction.u;
    const int64_t k = shape().shorter();
    int64_t in_band = 0;
    for (int64_t i = 0; i < k; ++i) {
        const double value = ref::at(direction.values, i) / direction.norm();
        in_band += value >= 0.0015;
        for (int64_t row = 0; row < rows_; ++row) ref::at(want, row * k + i) *= ref::newton_schulz(value);
    }
    want = ref::times_transposed(want, ref::transposed(direction.vt, k, columns_), rows_, columns_, k);
    EXPECT_LT(relative_error(update, want), error_tolerance());
    std::vector<double> values = svd.values;
    ASSERT_GT(in_band, 0);
    EXPECT_LT(values.front(), 1.21 + tolerance());
    EXPECT_GT(ref::at(values, in_band - 1), 0.68 - tolerance());
}

TEST_P(Muon, StridedRowsGiveTheSameBits) {
    const Layout layout = columns(extents_, 3, 2);
    const Tensors state = tensors(), strided = tensors(layout);
    step(state);
    step(strided, grad_, layout, sum_squares_);
    EXPECT_TRUE(same_bits(state.param, strided.param));
    EXPECT_TRUE(same_bits(state.momentum, strided.momentum));
    EXPECT_TRUE(same_bits(state.compute, strided.compute));
}

TEST_P(Muon, NonFiniteNormOrLossLeavesEveryByteAlone) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    for (const auto& [sum_squares, loss] :
         {std::pair(kNan, 3.0), std::pair(kInfinity, 3.0), std::pair(9.0, kNan), std::pair(9.0, kInfinity)})
        expect_nothing_changes(sum_squares, loss);
}

TEST_P(Muon, ZeroGradientsOnlyDecay) {
    const auto size = static_cast<size_t>(count_);
    const Tensors state{in_out(start_.param, extents_, DType::kF32),
                        in_out(std::vector<double>(size), extents_, DType::kF32),
                        output(extents_, DType::kBF16), start_.param};
    step(state, std::vector<double>(size), extents_, 0);
    EXPECT_TRUE(same_values(state.momentum, std::vector<double>(size)));
    std::vector<double> want = start_.param;
    for (double& x : want) x -= kLr * shape().weight_decay * x;
    EXPECT_TRUE(close_to(state.param, want));
}

/// A parameter in bf16 is the fp32 result rounded once, and its copy in fp32 is exact.
TEST_P(Muon, RoundsParametersInBf16Once) {
    constexpr int64_t kFirstElement = 40;
    std::vector<double> narrow = start_.param;
    for (double& x : narrow) x = rounded(x, DType::kBF16);
    const auto update = [&](const DeviceTensor& param, const DeviceTensor& copy, Bf16Rounding rounding) {
        const auto momentum = in_out(start_.momentum, extents_, DType::kF32);
        const auto grad = input(grad_, extents_, DType::kF32), sums = input({9.0}, {1}, DType::kF64);
        reserve(muon_scratch_bytes(rows_, columns_, dtype()));
        MuonParams use = params();
        use.step = 3;
        use.rounding = {rounding, rounding, 5, kFirstElement};
        muon_step(ctx(), {param, momentum, copy, grad}, sums, use);
    };
    const auto exact = in_out(narrow, extents_, DType::kF32);
    update(exact, output(extents_, DType::kBF16), Bf16Rounding::kNearest);
    const Layout layout = columns(extents_, 1, 2);
    for (const Bf16Rounding rounding : {Bf16Rounding::kNearest, Bf16Rounding::kStochastic}) {
        const auto param = in_out(narrow, layout, DType::kBF16), copy = output(extents_, DType::kF32);
        update(param, copy, rounding);
        std::vector<double> want = exact.values();
        for (int64_t i = 0; i < count_; ++i) {
            const auto value = static_cast<float>(ref::at(want, i));
            const int64_t element = kFirstElement + i / columns_ * layout.strides[0] + i % columns_;
            const PhiloxBlock bits = rounding_bits(5, 3, RoundedNumber::kParam, element / kElementsPerBlock);
            const int lane = static_cast<int>(element % kElementsPerBlock);
            const Bf16 stored = rounding == Bf16Rounding::kNearest
                                    ? to_bf16(value)
                                    : Bf16{round_stochastically(value, bits_of_lane(bits, lane))};
            ref::at(want, i) = to_float(stored);
        }
        EXPECT_TRUE(same_values(param, want));
        EXPECT_TRUE(same_values(copy, want));
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, Muon, every_target<MuonShape>(kShapes), case_name<MuonShape>);

/// The CPU and CUDA in fp32 agree to rounding.
TEST(MuonBackends, Agree) {
    std::vector<std::vector<double>> results;
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        Random random(5);
        reserve_scratch(ctx, muon_scratch_bytes(65, 34, DType::kF32));
        const auto tensor = [&](Role role) {
            return std::make_unique<DeviceTensor>(ctx, DType::kF32, Shape{65, 34}, role,
                                                  random.normal(65 * 34, DType::kF32));
        };
        const auto param = tensor(Role::kInOut), momentum = tensor(Role::kInOut), grad = tensor(Role::kInput);
        const DeviceTensor sums(ctx, DType::kF64, {1}, Role::kInput, std::vector<double>{1.0});
        muon_step(ctx, {*param, *momentum, {}, *grad}, sums, {1.0f, 0.95f, 0, 0, DType::kF32});
        results.push_back(param->values());
    }
    for (const std::vector<double>& result : results) EXPECT_LT(relative_error(result, results[0]), 1e-5);
}

TEST(MuonFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    reserve_scratch(ctx, 1 << 16);
    const Tensor p = tensor({8, 4}), sums = tensor({1}, DType::kF64);
    const MuonParams params{1e-3f, 0.95f, 0, 0, DType::kF32};
    EXPECT_THROW(muon_step(ctx, {p, tensor({4, 8}), {}, p}, sums, params), Error);
    const Tensor narrow = tensor({8, 4}, DType::kBF16);
    EXPECT_THROW(muon_step(ctx, {p, p, p, p}, sums, params), Error) << "compute f32";
    EXPECT_THROW(muon_step(ctx, {narrow, p, narrow, p}, sums, params), Error) << "compute bf16";
    EXPECT_THROW(muon_step(ctx, {p, narrow, {}, p}, sums, params), Error);
    EXPECT_THROW(muon_step(ctx, {p, p, {}, tensor({32})}, sums, params), Error);
    EXPECT_THROW(muon_step(ctx, {p, p, {}, p}, tensor({1}), params), Error);
    EXPECT_THROW(muon_step(ctx, {p, p, {}, p}, sums, {1e-3f, 1.0f, 0, 0, DType::kF32}), Error);
    EXPECT_THROW(muon_step(ctx, {p, p, {}, p}, sums, {1e-3f, 0.95f, 0, 0, DType::kI32}), Error);
}

}  // namespace
}  // namespace pastur::test
