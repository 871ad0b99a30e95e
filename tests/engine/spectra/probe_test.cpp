// What the probe records is what float64 makes of the queries and keys of the training model.
#include "engine/spectra/probe.h"

#include <fstream>

#include "engine/io/json_text.h"
#include "tests/ref/attention_logits.h"
#include "tests/support/model_harness.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

constexpr int64_t kSequences = 5, kBatch = 2;

/// x [B, T, heads, width] or [B, T, width], with any strides, as doubles.
std::vector<double> strided_values(Context& ctx, ConstTensor x) {
    if (x.empty()) return {};
    if (x.rank() == 3) x = x.unflatten(2, 1, x.size(2));
    std::vector<double> values;
    for (int64_t b = 0; b < x.size(0); ++b)
        for (int64_t t = 0; t < x.size(1); ++t) {
            const auto* rows = x.slice(0, b, 1).slice(1, t, 1).bytes();
            const std::vector<double> heads =
                values_of(ctx, ConstTensor(rows, x.dtype(), {x.size(2), x.size(3)}, {x.stride(2), 1}));
            values.insert(values.end(), heads.begin(), heads.end());
        }
    return values;
}

class ActivationProbe : public OpTest<VariantCase> {
  protected:
    ActivationProbe() : config_(tiny_config(shape().attention, shape().model)) {
        config_.data.seq_len = 70;  // two tiles of logits
        config_.train.micro_batch = kBatch;
        config_.diagnostics.every = 1;
        config_.diagnostics.probe_sequences = kSequences;
        config_.diagnostics.scopes = {Scope::kLogits};
        for (int64_t i = 0; i < kSequences; ++i) sequences_.push_back(random_.ids(71, config_.model.vocab));
    }

    ReadSequence reader() const {
        return [this](int64_t i, std::span<int32_t> out) {
            std::copy_n(sequences_.at(static_cast<size_t>(i)).begin(), out.size(), out.begin());
        };
    }
    std::vector<nlohmann::json> lines(const char* name) const {
        std::ifstream file(folder_.path() / name);
        std::vector<nlohmann::json> lines;
        for (std::string line; std::getline(file, line);) lines.push_back(parse_json(line));
        return lines;
    }

    Config config_;
    std::vector<std::vector<int32_t>> sequences_;
    TempFolder folder_;
};

TEST_P(ActivationProbe, LogitsEqualFloat64) {
    ModelUnderTest under_test(config_, ctx(), dtype(), {1, 70});
    Model& model = under_test.model();
    under_test.set_weights(under_test.random_weights(random_, dtype()));
    Probe probe(ctx(), model, reader(), kSequences + 3, folder_.path());
    probe.open(-1);
    EXPECT_EQ(probe.last_step(), -1);
    probe.observe(20);
    EXPECT_TRUE(probe.drain().messages.empty());

    // One sequence at a time through the training model.
    const int64_t layers = config_.model.layers, heads = config_.model.heads;
    std::vector<ref::LogitStatistics> want(static_cast<size_t>(layers * heads));
    DeviceBatch batch(ctx(), model.shape());
    bool split = false;
    for (int64_t i = 0; i < kSequences; ++i) {
        batch.upload(ctx(), read_batch(reader(), i, model.shape()));
        model.forward_layers(ctx(), batch.tokens(), [&](int64_t layer, const Block& block) {
            const AttentionInputs in = block.attention().inputs();
            split = !in.k_shared.empty();
            const ref::AttentionSizes n{
                1, 70, heads, in.k.size(2), in.k.size(3), in.q.size(3) - in.k.size(3)};
            for (int64_t h = 0; h < heads; ++h)
                want[static_cast<size_t>(layer * heads + h)].add(
                    ref::logit_statistics(strided_values(ctx(), in.q), strided_values(ctx(), in.k),
                                          strided_values(ctx(), in.k_shared), n, in.scale, 0, h, 0, 70));
        });
    }

    const auto records = lines("logits.jsonl");
    ASSERT_EQ(records.size(), want.size());
    // A batch of another size may round differently: cuBLASLt takes another kernel.
    const double tolerance = dtype() == DType::kF32 ? 1e-5 : 2e-2;
    for (size_t i = 0; i < want.size(); ++i) {
        const nlohmann::json& record = records[i];
        const ref::LogitStatistics& w = want[i];
        SCOPED_TRACE(record.dump());
        const auto number = [&](const char* key) { return record.at(key).get<double>(); };
        const auto expect = [&](const char* key, double value, double size = 1) {
            EXPECT_NEAR(number(key), value, tolerance * std::max(size, std::abs(value))) << key;
        };
        EXPECT_EQ(record.at("step"), 20);
        EXPECT_EQ(record.at("layer"), static_cast<int64_t>(i) / heads);
        EXPECT_EQ(record.at("head"), static_cast<int64_t>(i) % heads);
        expect("max_logit", w.largest);
        const double squares = w.content_squares + w.rope_squares + 2 * w.products;
        expect("rms_logit", std::sqrt(squares / w.pairs));
        expect("entropy", w.entropy / (kSequences * 70));
        expect("entropy_ratio", w.entropy_ratio / (kSequences * 69));
        EXPECT_EQ(record.contains("rope_share"), split);
        if (!split) continue;
        const double c = w.content / w.pairs, r = w.rope / w.pairs,
                     variance = squares / w.pairs - (c + r) * (c + r);
        expect("content_share", (w.content_squares / w.pairs - c * c) / variance);
        expect("rope_share", (w.rope_squares / w.pairs - r * r) / variance);
        expect("covariance_share", 2 * (w.products / w.pairs - c * r) / variance);
    }
}

TEST_P(ActivationProbe, ContinuesItsFilesAndReadsWhatThereIs) {
    ModelUnderTest model(config_, ctx(), dtype(), {kBatch, 70});
    model.set_weights(model.random_weights(random_, dtype()));
    {
        Probe probe(ctx(), model.model(), reader(), kSequences, folder_.path());
        probe.open(-1);
        for (const int64_t step : {0, 10, 20}) probe.observe(step);
        EXPECT_EQ(probe.drain().scalars.size(), 3u * 2u * (shape().label.starts_with("decoupled") ? 6u : 4u));
    }
    Probe probe(ctx(), model.model(), reader(), 3, folder_.path());
    const std::vector<std::string> messages = probe.poll().messages;
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_NE(messages[0].find("reads 3 sequences"), std::string::npos) << messages[0];
    probe.open(10);
    EXPECT_EQ(probe.last_step(), 10);
    probe.observe(30);
    EXPECT_TRUE(probe.drain().messages.empty()) << "said once";
    std::map<int64_t, int> kept, moved;
    for (const auto& line : lines("logits.jsonl")) ++kept[line.at("step").get<int64_t>()];
    for (const auto& line : lines("logits.abandoned.jsonl")) ++moved[line.at("step").get<int64_t>()];
    const int each = static_cast<int>(config_.model.layers * config_.model.heads);
    EXPECT_EQ(kept, (std::map<int64_t, int>{{0, each}, {10, each}, {30, each}}));
    EXPECT_EQ(moved, (std::map<int64_t, int>{{20, each}}));
}

INSTANTIATE_TEST_SUITE_P(Variants, ActivationProbe, every_target(every_attention()), case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
