// data.mask_documents in whole models: a document is computed as if it were alone.
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

constexpr int32_t kEnd = 3;  ///< the token that ends a document
constexpr int64_t kFirst = 6, kSecond = 9, kTime = kFirst + kSecond;

class DocumentMaskOfModel : public OpTest<VariantCase> {
  protected:
    Config config(bool mask, Recompute recompute = Recompute::kNone) const {
        Config config = tiny_config(shape().attention, shape().model);
        config.data.mask_documents = mask;
        config.data.seq_len = kTime;
        config.train.recompute = recompute;
        return config;
    }
    /// Tokens without a separator, and what follows each.
    TokenBatch tokens(int64_t count) {
        TokenBatch batch = random_batch(random_, {1, count}, 19);
        for (int32_t& id : batch.tokens)
            if (id == kEnd) id = 4;
        return batch;
    }
    /// A document of kFirst tokens and one of kSecond.
    TokenBatch packed() {
        TokenBatch batch = tokens(kTime);
        batch.tokens[kFirst - 1] = kEnd;
        return batch;
    }
    static TokenBatch part(const TokenBatch& batch, int64_t begin, int64_t count) {
        const auto slice = [&](const std::vector<int32_t>& ids) {
            return std::vector<int32_t>(ids.begin() + begin, ids.begin() + begin + count);
        };
        return {slice(batch.tokens), slice(batch.targets)};
    }
    std::vector<double> losses(const TokenBatch& batch, const NamedValues& weights, bool mask) {
        ModelUnderTest model(config(mask), ctx(), dtype(), {1, std::ssize(batch.tokens)});
        model.model().set_separator(kEnd);
        model.set_weights(weights);
        model.forward(batch);
        return model.losses();
    }
    NamedValues weights() {
        return ModelUnderTest(config(false), ctx(), dtype(), {1, kTime}).random_weights(random_, dtype());
    }
    /// Whether logits depend on the distance of tokens alone: mla-prerope compresses rotated keys, and the gates of mtla
    /// depend on the number of a chunk.
    bool is_relative() const {
        return shape().attention.find("prerope") == std::string::npos &&
               shape().attention.find("mtla") == std::string::npos;
    }
};

TEST_P(DocumentMaskOfModel, PackedDocumentsHaveTheLossesOfEachAlone) {
    const TokenBatch batch = packed();
    const NamedValues weights = this->weights();
    const std::vector<double> together = losses(batch, weights, true),
                              first = losses(part(batch, 0, kFirst), weights, false),
                              second = losses(part(batch, kFirst, kSecond), weights, false),
                              unmasked = losses(batch, weights, false);
    // In bf16 a rotation by other angles rounds differently, and random weights amplify it.
    const double tolerance = dtype() == DType::kBF16 ? 0.1 : 2e-5;
    for (size_t t = 0; t < first.size(); ++t) EXPECT_NEAR(together[t], first[t], tolerance) << t;
    double difference = 0;
    for (size_t t = 0; t < second.size(); ++t) {
        if (is_relative()) {
            EXPECT_NEAR(together[kFirst + t], second[t], tolerance) << t;
        }
        difference = std::max(difference, std::abs(together[kFirst + t] - unmasked[kFirst + t]));
    }
    EXPECT_GT(difference, 0.01) << "the second document sees the first without a mask";
}

TEST_P(DocumentMaskOfModel, OtherDocumentsChangeNoBit) {
    const TokenBatch batch = packed();
    const NamedValues weights = this->weights();
    const std::vector<double> before = losses(batch, weights, true);
    TokenBatch other = tokens(kTime);
    other.targets = batch.targets;
    std::copy(batch.tokens.begin() + kFirst - 1, batch.tokens.end(), other.tokens.begin() + kFirst - 1);
    const std::vector<double> after = losses(other, weights, true);
    for (size_t t = kFirst; t < before.size(); ++t) EXPECT_EQ(before[t], after[t]) << t;
    EXPECT_FALSE(std::equal(before.begin(), before.begin() + kFirst, after.begin()));
}

TEST_P(DocumentMaskOfModel, OneDocumentHasTheBitsOfNoMask) {
    const TokenBatch batch = tokens(kTime);
    const NamedValues weights = this->weights();
    const auto run = [&](bool mask) {
        ModelUnderTest model(config(mask), ctx(), dtype(), {1, kTime});
        model.model().set_separator(kEnd);
        model.set_weights(weights);
        const double loss = model.forward_backward(batch);
        return std::pair(loss, model.gradients());
    };
    EXPECT_EQ(run(true), run(false));
}

TEST_P(DocumentMaskOfModel, RecomputationKeepsTheBits) {
    const TokenBatch batch = packed();
    const NamedValues weights = this->weights();
    const auto gradients = [&](Recompute level) {
        ModelUnderTest model(config(true, level), ctx(), dtype(), {1, kTime});
        model.model().set_separator(kEnd);
        model.set_weights(weights);
        model.forward_backward(batch);
        return model.gradients();
    };
    EXPECT_EQ(gradients(Recompute::kBlock), gradients(Recompute::kNone));
}

INSTANTIATE_TEST_SUITE_P(Model, DocumentMaskOfModel, every_target<VariantCase>(every_attention()),
                         case_name<VariantCase>);

TEST(DocumentMaskOfModels, NeedsASeparator) {
    Config config = tiny_config("variant = \"mha\"");
    config.data.mask_documents = true;
    Context& ctx = context(Device::kCpu);
    ModelUnderTest model(config, ctx, DType::kF32, {1, 5});
    Random random;
    const TokenBatch batch = random_batch(random, {1, 5}, 19);
    EXPECT_THROW(model.forward(batch), Error);
    model.model().set_separator(kEnd);
    EXPECT_NO_THROW(model.forward(batch));
}

}  // namespace
}  // namespace pastur::test
