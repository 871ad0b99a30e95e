#include "kernels/cross_entropy.h"

#include <limits>

#include "tests/ref/cross_entropy.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct LossShape {
    int64_t tokens, vocab;
    double spread = 1.5;  ///< standard deviation of the logits
    std::string name() const { return fmt::format("N{}_V{}{}", tokens, vocab, spread > 100 ? "_huge" : ""); }
};

const std::vector<LossShape> kShapes = {
    {1, 1},    {3, 1},    {1, 2},     {7, 3},     {5, 31},      {2, 33},        {3, 257},        {129, 13},
    {4, 1031}, {2, 4099}, {5, 32000}, {2, 50257}, {6, 17, 1e4}, {3, 2049, 1e4}, {2, 32000, 500},
};

class CrossEntropy : public OpTest<LossShape> {
  protected:
    static constexpr float kScale = 0.375f;  // exact in bf16
    const int64_t tokens_ = shape().tokens, vocab_ = shape().vocab;
    const std::vector<double> logits_ = normal(tokens_ * vocab_, shape().spread);
    const std::vector<int32_t> targets_ = make_targets();

    std::vector<int32_t> make_targets() {
        std::vector<int32_t> targets = random_.ids(tokens_, vocab_);
        targets.front() = 0;
        targets.back() = static_cast<int32_t>(vocab_ - 1);
        return targets;
    }
    bool is_target(int64_t element) const { return ref::at(targets_, element / vocab_) == element % vocab_; }
    /// The elements of the targets, or all others. They are compared separately, because the gradient of a
    /// target is about -1 and that of another element about 1 / V, too small to show next to it.
    std::vector<double> select(const std::vector<double>& values, bool targets) const {
        std::vector<double> chosen;
        for (int64_t i = 0; i < tokens_ * vocab_; ++i)
            if (is_target(i) == targets) chosen.push_back(ref::at(values, i));
        return chosen;
    }
};

TEST_P(CrossEntropy, ForwardMatchesReference) {
    const auto logits = input(logits_, {tokens_, vocab_}), targets = input(targets_);
    const auto losses = output({tokens_}, DType::kF32);
    cross_entropy_forward(ctx(), losses, logits, targets);
    // At V = 1 the loss is exactly 0, as the difference of terms as large as the logits.
    EXPECT_TRUE(close_to(losses, ref::cross_entropy(logits_, targets_, vocab_), vocab_ == 1 ? 1.0 : 0.0));
}

TEST_P(CrossEntropy, BackwardIsTheGradient) {
    const auto logits = in_out(logits_, {tokens_, vocab_}), again = in_out(logits_, {tokens_, vocab_});
    const auto targets = input(targets_);
    const auto losses = output({tokens_}, DType::kF32), losses_again = output({tokens_}, DType::kF32);
    cross_entropy_forward_backward(ctx(), losses, logits, targets, kScale);
    cross_entropy_forward_backward(ctx(), losses_again, again, targets, kScale);
    EXPECT_TRUE(close_to(losses, ref::cross_entropy(logits_, targets_, vocab_), vocab_ == 1 ? 1.0 : 0.0));
    EXPECT_TRUE(same_bits(logits, again));
    EXPECT_TRUE(same_bits(losses, losses_again));

    // With huge logits most probabilities are 0, and the others come from differences of large numbers.
    const double terms = shape().spread > 100 || vocab_ == 1 ? kScale : 0.0;
    const auto loss = [&](const ComplexArguments& a) {
        ref::Complex sum(0);
        for (const ref::Complex& x : ref::cross_entropy(a[0], targets_, vocab_)) sum += x;
        return sum * static_cast<double>(kScale);
    };
    EXPECT_TRUE(is_gradient(logits, loss, {logits_}, 0, {.terms = terms}));
}

TEST_P(CrossEntropy, SmallProbabilitiesAreAccurateToo) {
    const auto logits = in_out(logits_, {tokens_, vocab_});
    const auto targets = input(targets_), losses = output({tokens_}, DType::kF32);
    cross_entropy_forward_backward(ctx(), losses, logits, targets, kScale);
    std::vector<double> want;
    const std::vector<double> nll = ref::cross_entropy(logits_, targets_, vocab_);
    for (int64_t i = 0; i < tokens_ * vocab_; ++i) {
        // log p = logit - log sum exp = logit - target's logit - loss.
        const int64_t n = i / vocab_, target = n * vocab_ + ref::at(targets_, n);
        const double p = std::exp(ref::at(logits_, i) - ref::at(logits_, target) - ref::at(nll, n));
        want.push_back(kScale * (p - (i == target)));
    }
    const double terms = shape().spread > 100 || vocab_ == 1 ? kScale : 0.0;
    const std::vector<double> got = logits.values();
    EXPECT_TRUE(close_to(select(got, true), select(want, true), dtype(), {tokens_}, terms));
    if (vocab_ > 1) {
        EXPECT_TRUE(close_to(select(got, false), select(want, false), dtype(), {tokens_, vocab_ - 1}, terms));
    }
}

TEST_P(CrossEntropy, NonFiniteLogitsShowInTheirOwnRowOnly) {
    std::vector<double> kinds = kinds_of_nan();
    kinds.push_back(std::numeric_limits<double>::infinity());
    const int64_t row = tokens_ / 2;
    for (double kind : kinds) {
        std::vector<double> damaged(logits_);
        ref::at(damaged, row * vocab_ + random_.below(vocab_)) = kind;
        const auto logits = in_out(damaged, {tokens_, vocab_}), targets = input(targets_);
        const auto losses = output({tokens_}, DType::kF32), same = output({tokens_}, DType::kF32);
        cross_entropy_forward(ctx(), same, logits, targets);
        cross_entropy_forward_backward(ctx(), losses, logits, targets, kScale);
        for (const auto* tensor : {&losses, &same}) {
            const std::vector<double> got = tensor->values();
            for (int64_t n = 0; n < tokens_; ++n)
                EXPECT_EQ(std::isfinite(ref::at(got, n)), n != row)
                    << "row " << n << ", " << kind << " in row " << row;
        }
    }
}

TEST_P(CrossEntropy, NegativeTargetsAreIgnored) {
    // Every second row is ignored, from the first and from the second one; a NaN in it does not show.
    for (const int64_t first : {0, 1}) {
        std::vector<int32_t> targets = targets_;
        std::vector<double> damaged = logits_;
        for (int64_t n = first; n < tokens_; n += 2) {
            ref::at(targets, n) = n % 4 < 2 ? -1 : INT32_MIN;
            ref::at(damaged, n * vocab_ + vocab_ / 2) = std::numeric_limits<double>::quiet_NaN();
        }
        const auto logits = in_out(damaged, {tokens_, vocab_}), device_targets = input(targets);
        const auto losses = output({tokens_}, DType::kF32), same = output({tokens_}, DType::kF32);
        cross_entropy_forward(ctx(), same, logits, device_targets);
        cross_entropy_forward_backward(ctx(), losses, logits, device_targets, kScale);
        const std::vector<double> want = ref::cross_entropy(logits_, targets, vocab_);
        EXPECT_TRUE(close_to(losses, want, vocab_ == 1 ? 1.0 : 0.0));
        EXPECT_TRUE(close_to(same, want, vocab_ == 1 ? 1.0 : 0.0));
        const std::vector<double> got = logits.values(), got_losses = losses.values(),
                                  got_same = same.values();
        for (int64_t n = first; n < tokens_; n += 2) {
            EXPECT_EQ(ref::at(got_losses, n), 0);
            EXPECT_EQ(ref::at(got_same, n), 0);
            for (int64_t v = 0; v < vocab_; ++v) ASSERT_EQ(ref::at(got, n * vocab_ + v), 0) << n << " " << v;
        }
        const double terms = shape().spread > 100 || vocab_ == 1 ? kScale : 0.0;
        const auto loss = [&](const ComplexArguments& a) {
            ref::Complex sum(0);
            for (const ref::Complex& x : ref::cross_entropy(a[0], targets, vocab_)) sum += x;
            return sum * static_cast<double>(kScale);
        };
        EXPECT_TRUE(is_gradient(logits, loss, {logits_}, 0, {.terms = terms}));
    }
}

// Each of the other logits adds 4.1e-8, less than half an ulp of the target's 1: a single fp32 sum would drop them.
TEST_P(CrossEntropy, ManySmallProbabilitiesAreCounted) {
    constexpr double kOther = -17;
    std::vector<double> values(static_cast<size_t>(tokens_ * vocab_), kOther);
    for (int64_t n = 0; n < tokens_; ++n) ref::at(values, n * vocab_) = 0;
    const std::vector<int32_t> first(static_cast<size_t>(tokens_), 0);
    const auto logits = in_out(values, {tokens_, vocab_}), targets = input(first);
    const auto losses = output({tokens_}, DType::kF32), same = output({tokens_}, DType::kF32);
    cross_entropy_forward(ctx(), same, logits, targets);
    cross_entropy_forward_backward(ctx(), losses, logits, targets, kScale);
    const double want = std::log1p(static_cast<double>(vocab_ - 1) * std::exp(kOther));
    for (const auto* tensor : {&losses, &same})
        for (const double loss : tensor->values()) EXPECT_NEAR(loss, want, 1.5e-5) << "V " << vocab_;
}

INSTANTIATE_TEST_SUITE_P(Ops, CrossEntropy, every_target(kShapes), case_name<LossShape>);

TEST(CrossEntropyFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor logits = tensor({3, 5}), targets = tensor({3}, DType::kI32), losses = tensor({3});
    EXPECT_THROW(cross_entropy_forward(ctx, tensor({2}), logits, targets), Error);
    EXPECT_THROW(cross_entropy_forward(ctx, losses, logits, tensor({4}, DType::kI32)), Error);
    EXPECT_THROW(cross_entropy_forward(ctx, losses, logits, tensor({3})), Error);
    EXPECT_THROW(cross_entropy_forward(ctx, losses, tensor({15}), targets), Error);
    EXPECT_THROW(cross_entropy_forward(ctx, tensor({3}, DType::kBF16), logits, targets), Error);
    EXPECT_THROW(cross_entropy_forward_backward(ctx, tensor({2}), logits, targets, 1), Error);
    const Tensor strided(logits.bytes(), DType::kF32, {3, 5}, {8, 1});
    EXPECT_THROW(cross_entropy_forward_backward(ctx, losses, strided, targets, 1), Error);
}

}  // namespace
}  // namespace pastur::test
