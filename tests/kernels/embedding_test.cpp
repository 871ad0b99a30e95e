#include "kernels/embedding.h"

#include "tests/ref/embedding.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct LookupShape {
    int64_t tokens, vocab, width;
    enum Ids { kRandom, kAllEqual, kFewOfMany } ids = kRandom;
    std::string name() const {
        const char* kind = ids == kRandom ? "" : ids == kAllEqual ? "_all_equal" : "_rows_unused";
        return fmt::format("N{}_V{}_C{}{}", tokens, vocab, width, kind);
    }
};

const std::vector<LookupShape> kShapes = {
    {1, 1, 1},
    {7, 3, 1},
    {5, 11, 3},
    {33, 7, 17},
    {64, 5, 129},
    {129, 31, 64},
    {257, 2003, 40},
    {100, 13, 24, LookupShape::kAllEqual},
    {1025, 4, 8, LookupShape::kAllEqual},
    {50, 1000, 16, LookupShape::kFewOfMany},
    {4099, 257, 12},
};

class Embedding : public OpTest<LookupShape> {
  protected:
    const int64_t tokens_ = shape().tokens, vocab_ = shape().vocab, width_ = shape().width;
    const std::vector<int32_t> ids_ = make_ids();
    const std::vector<double> table_ = normal(vocab_ * width_);
    const std::vector<double> dout_ = normal(tokens_ * width_);
    const std::vector<double> before_ = random_.normal(vocab_ * width_, DType::kF32);

    std::vector<int32_t> make_ids() {
        if (shape().ids == LookupShape::kAllEqual)
            return std::vector<int32_t>(static_cast<size_t>(tokens_), static_cast<int32_t>(vocab_ - 1));
        return random_.ids(tokens_,
                           shape().ids == LookupShape::kFewOfMany ? std::min<int64_t>(vocab_, 5) : vocab_);
    }
    void backward(Tensor dtable, Update update) {
        const auto dout = input(dout_, {tokens_, width_}), ids = input(ids_);
        reserve(embedding_backward_scratch_bytes(ctx(), tokens_, vocab_));
        embedding_backward(ctx(), dtable, dout, ids, update);
    }
    auto loss(double before_scale) const {
        return [=, this](const ComplexArguments& a) {
            return ref::dot(dout_, ref::embedding(a[0], ids_, width_)) +
                   before_scale * ref::dot(before_, a[0]);
        };
    }
};

TEST_P(Embedding, ForwardCopiesRows) {
    const auto table = input(table_, {vocab_, width_}), ids = input(ids_), out = output({tokens_, width_});
    embedding_forward(ctx(), out, table, ids);
    EXPECT_TRUE(same_values(out, ref::embedding(table_, ids_, width_)));
}

TEST_P(Embedding, BackwardIsTheGradient) {
    const auto assigned = output({vocab_, width_}, DType::kF32),
               added = in_out(before_, {vocab_, width_}, DType::kF32);
    backward(assigned, Update::kAssign);
    backward(added, Update::kAccumulate);
    EXPECT_TRUE(is_gradient(assigned, loss(0), {table_}, 0));
    EXPECT_TRUE(is_gradient(added, loss(1), {table_}, 0));
}

TEST_P(Embedding, BackwardAddsInAscendingOrderOnEveryDevice) {
    const auto dtable = output({vocab_, width_}, DType::kF32);
    backward(dtable, Update::kAssign);
    std::vector<double> want(static_cast<size_t>(vocab_ * width_), 0.0);
    for (int64_t n = 0; n < tokens_; ++n) {
        for (int64_t c = 0; c < width_; ++c) {
            double& sum = ref::at(want, ref::at(ids_, n) * width_ + c);
            sum = static_cast<float>(sum) + static_cast<float>(ref::at(dout_, n * width_ + c));
        }
    }
    EXPECT_TRUE(same_values(dtable, want));
}

INSTANTIATE_TEST_SUITE_P(Ops, Embedding, every_target(kShapes), case_name<LookupShape>);

TEST(EmbeddingFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor ids = tensor({3}, DType::kI32), table = tensor({5, 4}), out = tensor({3, 4});
    EXPECT_THROW(embedding_forward(ctx, out, table, tensor({2}, DType::kI32)), Error);
    EXPECT_THROW(embedding_forward(ctx, out, table, tensor({3})), Error);
    EXPECT_THROW(embedding_forward(ctx, tensor({3, 5}), table, ids), Error);
    EXPECT_THROW(embedding_forward(ctx, tensor({3, 4}, DType::kBF16), table, ids), Error);
    EXPECT_THROW(embedding_backward(ctx, tensor({5, 3}), out, ids, Update::kAssign), Error);
    EXPECT_THROW(embedding_backward(ctx, tensor({5, 4}, DType::kBF16), out, ids, Update::kAssign), Error);
}

}  // namespace
}  // namespace pastur::test
