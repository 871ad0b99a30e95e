// Generation from a cache against the full forward pass, for every variant and switch.
#include <cmath>

#include "engine/model/decoding/generate.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

using Tokens = std::vector<int32_t>;

constexpr int64_t kTime = 17;
/// Lengths of the prompts: the longest, a single token, and one within a slot of mtla.
const std::vector<int64_t> kPrompts = {7, 1, 4};
const auto kSequences = static_cast<int64_t>(kPrompts.size());

class Decoding : public OpTest<VariantCase> {
  protected:
    Decoding() : config_(tiny_config(shape().attention, shape().model)) {
        config_.data.seq_len = kTime;
        model_ = std::make_unique<ModelUnderTest>(config_, ctx(), dtype(), BatchShape{kSequences, kTime});
        model_->set_weights(model_->random_weights(random_, dtype()));
        for (int64_t b = 0; b < kSequences; ++b) tokens_.push_back(random_.ids(kTime, config_.model.vocab));
    }
    /// Logits of every token of every sequence, [B, kTime, V], by the full forward pass.
    std::vector<double> full_logits(const std::vector<Tokens>& sequences) {
        TokenBatch batch;
        for (Tokens tokens : sequences) {
            tokens.resize(kTime);
            batch.tokens.insert(batch.tokens.end(), tokens.begin(), tokens.end());
        }
        batch.targets.resize(batch.tokens.size());
        model_->forward(batch);
        return model_->logits();
    }
    std::vector<double> row(const std::vector<double>& logits, int64_t b, int64_t t) const {
        const auto begin = logits.begin() + (b * kTime + t) * config_.model.vocab;
        return {begin, begin + config_.model.vocab};
    }
    std::vector<Tokens> prompts() const {
        std::vector<Tokens> prompts;
        for (size_t b = 0; b < kPrompts.size(); ++b)
            prompts.emplace_back(tokens_[b].begin(), tokens_[b].begin() + kPrompts[b]);
        return prompts;
    }
    DecoderShape decoder_shape() const { return {kSequences, kPrompts.front(), kTime}; }

    /// What generate() must return: every token from the full forward pass over all tokens before it.
    std::vector<Tokens> generate_without_cache(const Sampling& sampling) {
        std::vector<Tokens> sequences = prompts();
        for (int64_t step = 0; step < kTime; ++step) {
            const std::vector<double> logits = full_logits(sequences);
            for (int64_t b = 0; b < kSequences; ++b) {
                Tokens& tokens = sequences[static_cast<size_t>(b)];
                const std::vector<double> last = row(logits, b, std::ssize(tokens) - 1);
                const std::vector<float> numbers(last.begin(), last.end());
                if (std::ssize(tokens) < kTime)
                    tokens.push_back(sample(numbers, sampling, static_cast<uint64_t>(b), tokens.size()));
            }
        }
        return sequences;
    }
    /// The same with a cache. The decoder's last token has no room in the cache and is dropped.
    std::vector<Tokens> generate_with_cache(const Sampling& sampling) {
        Decoder decoder(ctx(), model_->model(), decoder_shape());
        GenerateOptions options;
        options.sampling = sampling;
        const Generation generation = generate(decoder, prompts(), options);
        std::vector<Tokens> sequences = prompts();
        for (size_t b = 0; b < sequences.size(); ++b) {
            const Continuation& continuation = generation.sequences[b];
            EXPECT_EQ(continuation.stop, StopReason::kRoom);
            sequences[b].insert(sequences[b].end(), continuation.tokens.begin(), continuation.tokens.end());
            EXPECT_EQ(std::ssize(sequences[b]), kTime + 1);
            sequences[b].resize(kTime);
        }
        return sequences;
    }

    Config config_;
    std::unique_ptr<ModelUnderTest> model_;
    std::vector<Tokens> tokens_;
};

/// Largest difference over the largest magnitude.
double distance(std::span<const float> got, const std::vector<double>& want) {
    double difference = 0, scale = 1e-30;
    for (size_t i = 0; i < want.size(); ++i) {
        if (!std::isfinite(got[i])) return INFINITY;
        difference = std::max(difference, std::abs(static_cast<double>(got[i]) - want[i]));
        scale = std::max(scale, std::abs(want[i]));
    }
    return difference / scale;
}

TEST_P(Decoding, LogitsAreThoseOfTheFullForwardPass) {
    const std::vector<double> want = full_logits(tokens_);
    Decoder decoder(ctx(), model_->model(), decoder_shape());
    const double tolerance = dtype() == DType::kF32 ? 1e-5 : 6e-2;
    const auto vocab = static_cast<size_t>(config_.model.vocab);
    const auto expect_rows = [&](const Tokens& passed) {
        const std::span<const float> got = decoder.read_logits();
        for (int64_t b = 0; b < kSequences; ++b) {
            if (passed[static_cast<size_t>(b)] == Decoder::kFinished) continue;
            EXPECT_LT(distance(got.subspan(static_cast<size_t>(b) * vocab, vocab),
                               row(want, b, decoder.length(b) - 1)),
                      tolerance)
                << "sequence " << b << ", " << decoder.length(b) << " tokens";
        }
    };
    decoder.prefill(prompts());
    expect_rows(Tokens(kPrompts.size()));
    for (int64_t step = 0; step < kTime - 1; ++step) {
        Tokens next;
        for (int64_t b = 0; b < kSequences; ++b) {
            const int64_t length = decoder.length(b);
            const bool finished = length == kTime || (b == 1 && step >= 3);
            next.push_back(finished ? Decoder::kFinished
                                    : tokens_[static_cast<size_t>(b)][static_cast<size_t>(length)]);
        }
        decoder.step(next);
        expect_rows(next);
    }
}

TEST_P(Decoding, GreedyTokensAreThoseWithoutACache) {
    if (dtype() != DType::kF32) return;  // roundings decide between nearly equal logits
    const std::vector<Tokens> want = generate_without_cache({});
    EXPECT_EQ(generate_with_cache({}), want);
}

TEST_P(Decoding, SampledTokensAreThoseWithoutACache) {
    if (dtype() != DType::kF32) return;
    for (const Sampling& sampling : {Sampling{1.0, 0, 1.0, 7}, Sampling{0.8, 9, 0.9, 8}}) {
        const std::vector<Tokens> want = generate_without_cache(sampling);
        EXPECT_EQ(generate_with_cache(sampling), want);
        EXPECT_NE(want, generate_without_cache({}));
    }
}

INSTANTIATE_TEST_SUITE_P(Model, Decoding, every_target<VariantCase>(every_attention()),
                         case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
