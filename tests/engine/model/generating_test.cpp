// The loop of generation: batches, ends of sequences, captured passes, long prompts.
#include "engine/model/decoding/generate.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

using Tokens = std::vector<int32_t>;

constexpr int64_t kTime = 17;

class Generating : public OpTest<VariantCase> {
  protected:
    Generating() : config_(tiny_config(shape().attention, shape().model)) {
        config_.data.seq_len = kTime;
        model_ = std::make_unique<ModelUnderTest>(config_, ctx(), dtype(), BatchShape{1, kTime});
        model_->set_weights(model_->random_weights(random_, dtype()));
        for (const int64_t length : {3, 9, 1}) prompts_.push_back(random_.ids(length, config_.model.vocab));
    }
    Generation run(const std::vector<Tokens>& prompts, const GenerateOptions& options, int64_t room = kTime) {
        int64_t longest = 0;
        for (const Tokens& prompt : prompts) longest = std::max<int64_t>(longest, std::ssize(prompt));
        Decoder decoder(ctx(), model_->model(), {std::ssize(prompts), longest, room});
        return generate(decoder, prompts, options);
    }
    Config config_;
    std::unique_ptr<ModelUnderTest> model_;
    std::vector<Tokens> prompts_;
};

TEST_P(Generating, TokensDoNotDependOnTheBatch) {
    if (dtype() != DType::kF32) return;
    GenerateOptions options;
    options.sampling = {1, 0, 1, 11};
    options.max_tokens = 6;
    const Generation all = run(prompts_, options);
    for (size_t b = 0; b < prompts_.size(); ++b) {
        options.first_sequence = b;
        EXPECT_EQ(run({prompts_[b]}, options).sequences[0].tokens, all.sequences[b].tokens)
            << "sequence " << b;
    }
    options.first_sequence = 0;
    EXPECT_EQ(run(prompts_, options).sequences[1].tokens, all.sequences[1].tokens);
    options.sampling.seed = 12;
    EXPECT_NE(run(prompts_, options).sequences[1].tokens, all.sequences[1].tokens);
}

TEST_P(Generating, EverySequenceEndsForItsReason) {
    GenerateOptions options;
    options.max_tokens = 8;
    const Generation free = run(prompts_, options);
    for (const Continuation& c : free.sequences) {
        EXPECT_EQ(c.stop, StopReason::kTokens);
        EXPECT_EQ(std::ssize(c.tokens), 8);
    }
    EXPECT_EQ(free.decoded_tokens, 3 * 7);
    EXPECT_EQ(free.cache.tokens, 3 + 9 + 1 + 3 * 7) << "the last token of a sequence is not passed";
    // No room: the longest prompt gets what is left of 12 tokens, and one more that is not passed.
    const Generation narrow = run(prompts_, options, 12);
    EXPECT_EQ(narrow.sequences[1].stop, StopReason::kRoom);
    EXPECT_EQ(std::ssize(narrow.sequences[1].tokens), 12 - 9 + 1);
    EXPECT_EQ(narrow.sequences[2].stop, StopReason::kTokens);
    EXPECT_EQ(narrow.sequences[2].tokens, free.sequences[2].tokens);
    // The caller ends sequence 2 at its third token.
    std::vector<int> calls(3);
    options.on_token = [&](int64_t sequence, int32_t token) {
        EXPECT_EQ(token, free.sequences[static_cast<size_t>(sequence)]
                             .tokens[static_cast<size_t>(calls[static_cast<size_t>(sequence)]++)]);
        return sequence != 2 || calls[2] < 3;
    };
    const Generation stopped = run(prompts_, options);
    EXPECT_EQ(stopped.sequences[2].stop, StopReason::kCaller);
    EXPECT_EQ(calls, (std::vector<int>{8, 8, 3}));
    // The token that sequence 0 begins with ends it as EOS, and is not part of it.
    options.on_token = {};
    options.eos = {free.sequences[0].tokens[0]};
    const Generation ended = run(prompts_, options);
    EXPECT_EQ(ended.sequences[0].stop, StopReason::kEos);
    EXPECT_TRUE(ended.sequences[0].tokens.empty());
}

TEST_P(Generating, OnlyIdsBelowTheVocabularyAreDrawn) {
    GenerateOptions options;
    options.sampling = {50, 0, 1, 1};
    options.vocab = 4;
    for (const Continuation& c : run(prompts_, options).sequences)
        for (const int32_t id : c.tokens) EXPECT_LT(id, 4);
}

INSTANTIATE_TEST_SUITE_P(
    Model, Generating,
    every_target<VariantCase>({{"mha", "variant = \"mha\"", ""},
                               {"mla_rope", "variant = \"mla-rope\"\nkv_rank = 7", ""},
                               {"mtla", "variant = \"mtla\"\nkv_rank = 8\nrope_dim = 4\nstride = 2", ""}}),
    case_name<VariantCase>);

// Contexts that pass 256 slots, where the shapes of a pass change, and sequences that pass it at different steps.
class CapturedDecoding : public OpTest<VariantCase> {};

TEST_P(CapturedDecoding, TokensAreThoseOfPassesThatAreNotCaptured) {
    Config config = tiny_config(shape().attention, shape().model);
    config.data.seq_len = 600;
    const std::vector<Tokens> prompts = {random_.ids(509, 19), random_.ids(250, 19), random_.ids(3, 19)};
    GenerateOptions options;
    options.sampling = {0.8, 0, 1, 5};
    options.max_tokens = 20;
    std::vector<std::vector<Tokens>> found;
    for (const bool graph : {true, false}) {
        config.train.cuda_graph = graph;
        ModelUnderTest model(config, ctx(), dtype(), {1, 1});
        model.model().params().initialise(ctx(), 3);
        Decoder decoder(ctx(), model.model(), {3, 509, 600});
        std::vector<Tokens>& tokens = found.emplace_back();
        // Twice, because the second prefill begins with graphs of the first.
        for (int round = 0; round < 2; ++round)
            for (const Continuation& c : generate(decoder, prompts, options).sequences)
                tokens.push_back(c.tokens);
        if (graph && on_cuda()) {
            EXPECT_GT(decoder.replays(), 20) << "of 38 passes";
        } else {
            EXPECT_EQ(decoder.replays(), 0);
        }
    }
    ASSERT_EQ(found[0].size(), 6u);
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(std::ssize(found[0][0]), 20);
}

INSTANTIATE_TEST_SUITE_P(Model, CapturedDecoding,
                         every_target<VariantCase>(
                             {{"mha", "variant = \"mha\"", ""},
                              {"mla_decoupled", "variant = \"mla-decoupled\"\nkv_rank = 7\nrope_dim = 4", ""},
                              {"mla_rope", "variant = \"mla-rope\"\nkv_rank = 7\nqk_norm = \"head\"", ""},
                              {"mtla", "variant = \"mtla\"\nkv_rank = 8\nrope_dim = 4\nstride = 2", ""}}),
                         case_name<VariantCase>);

// Prompts of 3000 tokens are read two at a time. mla-rope decompresses its cache in blocks of 256 slots.
class DecodingLongPrompts : public testing::TestWithParam<const char*> {};

TEST_P(DecodingLongPrompts, SeveralPassesReadThemAsOneDoes) {
    Context& ctx = context(Device::kCpu);
    Config config = tiny_config(GetParam());
    ModelUnderTest model(config, ctx, DType::kF32, {1, 1});
    Random random(5);
    model.set_weights(model.random_weights(random, DType::kF32));
    const Model& weights = model.model();
    const std::vector<Tokens> prompts = {random.ids(2, 19), random.ids(7, 19), random.ids(3000, 19)};
    GenerateOptions options;
    options.max_tokens = 3;
    Decoder together(ctx, weights, {3, 3000, 3003});
    const Generation all = generate(together, prompts, options);
    for (size_t b = 0; b < prompts.size(); ++b) {
        Decoder decoder(ctx, weights, {1, std::ssize(prompts[b]), 3003});
        EXPECT_EQ(generate(decoder, {prompts[b]}, options).sequences[0].tokens, all.sequences[b].tokens);
    }
}

INSTANTIATE_TEST_SUITE_P(Model, DecodingLongPrompts,
                         testing::Values("variant = \"mla-decoupled\"\nrope_dim = 4",
                                         "variant = \"mla-rope\""));

// 4 sequences of 70,000 logits are drawn on two threads where the machine has them, one sequence on one.
TEST(GeneratingWithManyTokens, ThreadsDrawTheSameTokens) {
    Context& ctx = context(Device::kCpu);
    Config config = tiny_config("variant = \"mha\"");
    config.data.seq_len = 6;
    config.model.vocab = 70000;
    Model weights(config, DType::kF32, {1, 1});
    weights.params().allocate(ctx, false);
    weights.params().initialise(ctx, 3);
    const auto run = [&](const std::vector<Tokens>& prompts, uint64_t first) {
        GenerateOptions options;
        options.sampling = {1, 0, 0.9, 4};
        options.first_sequence = first;
        Decoder decoder(ctx, weights, {std::ssize(prompts), 2, 6});
        return generate(decoder, prompts, options);
    };
    const std::vector<Tokens> prompts = {{1, 2}, {3}, {69999, 5}, {7}};
    const Generation all = run(prompts, 0);
    for (size_t b = 0; b < prompts.size(); ++b)
        EXPECT_EQ(run({prompts[b]}, b).sequences[0].tokens, all.sequences[b].tokens) << "sequence " << b;
    // A failure on any thread is that of the call.
    const Param& norm = weights.params().table().params().back();
    const std::vector<double> nan(static_cast<size_t>(norm.shape.numel()), NAN);
    set_values(ctx, weights.params().master(norm), nan);
    weights.params().refresh_compute(ctx);
    try {
        run(prompts, 0);
        ADD_FAILURE() << norm.name << " is NaN";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kNonFinite) << error.what();
    }
}

}  // namespace
}  // namespace pastur::test
