// The choice of a cuBLASLt algorithm by timing, which is made for GEMMs of at least 2^30 multiply-adds.
#include "kernels/matmul.h"
#include "tests/support/harness.h"

namespace pastur::test {
namespace {

struct SearchShape {
    int64_t rows, out, in;
    std::string name() const { return fmt::format("N{}_O{}_I{}", rows, out, in); }
};

class LinearSearch : public OpTest<SearchShape> {
  protected:
    int64_t n_ = shape().rows, out_ = shape().out, in_ = shape().in;
    std::vector<double> x_ = normal(n_ * in_), w_ = normal(out_ * in_), dy_ = normal(n_ * out_);
    std::vector<double> dx_ = normal(n_ * in_);

    /// Runs the four kinds of GEMM in a new context, which has no plans yet.
    std::vector<std::vector<double>> run() const {
        Context fresh = make_context(on_cuda() ? Device::kCuda : Device::kCpu);
        const auto tensor = [&](const std::vector<double>& values, const Layout& layout, Role role) {
            return std::make_unique<DeviceTensor>(fresh, dtype(), layout, role, values);
        };
        const auto x = tensor(x_, {n_, in_}, Role::kInput), w = tensor(w_, {out_, in_}, Role::kInput);
        const auto dy = tensor(dy_, {n_, out_}, Role::kInput);
        const auto y = tensor({}, columns({n_, out_}, 0, 8), Role::kOutput);
        const auto added = tensor(dx_, {n_, in_}, Role::kInOut), dx = tensor({}, {n_, in_}, Role::kOutput);
        const DeviceTensor dw(fresh, DType::kF32, {out_, in_}, Role::kOutput);
        linear_forward(fresh, *y, *x, *w);
        linear_backward_input(fresh, *dx, *dy, *w, Update::kAssign);
        linear_backward_input(fresh, *added, *dy, *w, Update::kAccumulate);
        linear_backward_weight(fresh, dw, *dy, *x, Update::kAssign);
        return {y->values(), dx->values(), added->values(), dw.values()};
    }
};

TEST_P(LinearSearch, KeepsTheNumbersAndTheirBits) {
    const std::vector<std::vector<double>> first = run(), second = run();
    EXPECT_EQ(first, second) << "two searches gave different bits";
    std::vector<double> got_y, want_y, got_added, want_added;
    for (int i = 0; i < 200; ++i) {
        const int64_t n = random_.below(n_), o = random_.below(out_), c = random_.below(in_);
        double y = 0, added = dx_[static_cast<size_t>(n * in_ + c)];
        for (int64_t k = 0; k < in_; ++k)
            y += x_[static_cast<size_t>(n * in_ + k)] * w_[static_cast<size_t>(o * in_ + k)];
        for (int64_t k = 0; k < out_; ++k)
            added += dy_[static_cast<size_t>(n * out_ + k)] * w_[static_cast<size_t>(k * in_ + c)];
        got_y.push_back(first[0][static_cast<size_t>(n * out_ + o)]);
        want_y.push_back(y);
        got_added.push_back(first[2][static_cast<size_t>(n * in_ + c)]);
        want_added.push_back(added);
    }
    EXPECT_TRUE(close_to(got_y, want_y, dtype(), {200}));
    EXPECT_TRUE(close_to(got_added, want_added, dtype(), {200}));
}

INSTANTIATE_TEST_SUITE_P(Ops, LinearSearch, every_target<SearchShape>({{1280, 1024, 1024}}),
                         case_name<SearchShape>);

}  // namespace
}  // namespace pastur::test
