// What the probe records equals float64 computations from the activations of the training model.
#include "engine/spectra/probe/probe.h"

#include <lapacke.h>

#include <fstream>
#include <map>
#include <set>

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
    std::vector<nlohmann::json> lines(const std::string& name) const {
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
    Probe probe(ctx(), model, config_.diagnostics, reader(), kSequences + 3, folder_.path());
    probe.open(-1);
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
                1, 70, heads, in.k.size(2), in.k.size(3), in.q.size(3) - in.k.size(3), 0, in.stride};
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
        expect("entropy_ratio", w.entropy_ratio / w.choices);
        EXPECT_EQ(record.contains("rope_share"), split);
        if (!split) continue;
        const double c = w.content / w.pairs, r = w.rope / w.pairs,
                     variance = squares / w.pairs - (c + r) * (c + r);
        expect("content_share", (w.content_squares / w.pairs - c * c) / variance);
        expect("rope_share", (w.rope_squares / w.pairs - r * r) / variance);
        expect("covariance_share", 2 * (w.products / w.pairs - c * r) / variance);
    }
}

/// Eigenvalues of X^T X, descending, for X [rows, width] minus its column means.
std::vector<double> eigenvalues(std::vector<double> x, int64_t width) {
    const int64_t rows = static_cast<int64_t>(x.size()) / width;
    std::vector<double> gram = ref::zeros<double>(width * width), values = ref::zeros<double>(width);
    for (int64_t i = 0; i < width; ++i) {
        double mean = 0;
        for (int64_t n = 0; n < rows; ++n) mean += ref::at(x, n * width + i) / static_cast<double>(rows);
        for (int64_t n = 0; n < rows; ++n) ref::at(x, n * width + i) -= mean;
    }
    for (int64_t n = 0; n < rows; ++n)
        for (int64_t i = 0; i < width; ++i)
            for (int64_t j = 0; j < width; ++j)
                ref::at(gram, i * width + j) += ref::at(x, n * width + i) * ref::at(x, n * width + j);
    const auto n = static_cast<lapack_int>(width);
    EXPECT_EQ(LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'U', n, gram.data(), n, values.data()), 0);
    std::reverse(values.begin(), values.end());
    return values;
}

TEST_P(ActivationProbe, CovariancesEqualFloat64) {
    config_.diagnostics.scopes = {Scope::kLatents};
    ModelUnderTest under_test(config_, ctx(), dtype(), {1, 70});
    Model& model = under_test.model();
    under_test.set_weights(under_test.random_weights(random_, dtype()));
    Probe probe(ctx(), model, config_.diagnostics, reader(), kSequences, folder_.path());
    probe.open(-1);
    probe.observe(10);
    probe.observe(20);
    EXPECT_TRUE(probe.drain().messages.empty());
    EXPECT_TRUE(probe.idle());

    // Rows of tokens, one sequence at a time through the training model.
    std::map<std::pair<int64_t, std::string>, std::vector<double>> rows;
    std::map<std::string, int64_t> widths;
    DeviceBatch batch(ctx(), model.shape());
    for (int64_t i = 0; i < kSequences; ++i) {
        batch.upload(ctx(), read_batch(reader(), i, model.shape()));
        model.forward_layers(ctx(), batch.tokens(), [&](int64_t layer, const Block& block) {
            const auto add = [&](const std::string& name, const std::vector<double>& first,
                                 const std::vector<double>& second = {}) {
                const auto a = static_cast<int64_t>(first.size()) / 70,
                           b = static_cast<int64_t>(second.size()) / 70;
                widths[name] = a + b;
                std::vector<double>& all = rows[{layer, name}];
                for (int64_t t = 0; t < 70; ++t) {
                    all.insert(all.end(), first.begin() + t * a, first.begin() + (t + 1) * a);
                    all.insert(all.end(), second.begin() + t * b, second.begin() + (t + 1) * b);
                }
            };
            for (const auto& [name, value] : block.attention().latents())
                add(name, strided_values(ctx(), value.unflatten(0, 1, 70)));
            const AttentionInputs in = block.attention().inputs();
            add("keys", strided_values(ctx(), in.k), strided_values(ctx(), in.k_shared));
            add("values", strided_values(ctx(), in.v));
            add("residual", values_of(ctx(), block.input()));
        });
    }

    const auto named = [&](const char* prefix) { return shape().label.starts_with(prefix); };
    EXPECT_EQ(widths.contains("c_kv"),
              named("prerope_input") || named("decoupled") || named("mla_") || named("mtla"));
    EXPECT_EQ(widths.contains("c_k") && widths.contains("c_v"), named("prerope_keys"));
    const auto records = lines("latents.jsonl");
    ASSERT_EQ(records.size(), 2 * rows.size());
    const double tolerance = dtype() == DType::kF32 ? 1e-5 : 3e-2;
    for (size_t i = rows.size(); i < records.size(); ++i) {
        const nlohmann::json& record = records[i];
        SCOPED_TRACE(record.dump());
        const auto name = record.at("tensor").get<std::string>();
        const int64_t width = widths.at(name);
        EXPECT_EQ(record.at("step"), 20);
        EXPECT_EQ(record.at("tokens"), kSequences * 70);
        EXPECT_EQ(record.at("width"), width);
        const LatentRecord want =
            latent_record(0, name, kSequences * 70, width,
                          eigenvalues(rows.at({record.at("layer").get<int64_t>(), name}), width));
        const auto expect = [&](const char* key, double value, double slack = 0) {
            EXPECT_NEAR(record.at(key).get<double>(), value, tolerance * value + slack) << key;
        };
        expect("variance", want.variance);
        expect("entropy_rank", want.entropy_rank);
        expect("participation_ratio", want.participation_ratio);
        expect("rank_90", want.rank_90, dtype() == DType::kF32 ? 0 : 1);
        expect("rank_99", want.rank_99, dtype() == DType::kF32 ? 0 : 1);
    }
}

TEST_P(ActivationProbe, ContinuesItsFilesAndReadsWhatThereIs) {
    config_.diagnostics.scopes = {Scope::kLogits, Scope::kLatents};
    ModelUnderTest model(config_, ctx(), dtype(), {kBatch, 70});
    model.set_weights(model.random_weights(random_, dtype()));
    {
        Probe probe(ctx(), model.model(), config_.diagnostics, reader(), kSequences, folder_.path());
        probe.open(-1);
        for (const int64_t step : {0, 10, 20}) probe.observe(step);
        std::set<std::string> tags;
        for (const Scalar& scalar : probe.drain().scalars)
            EXPECT_TRUE(scalar.step < 20 || tags.insert(scalar.tag).second) << scalar.tag;
        for (const char* tag : {"logits/max_logit/L00", "logits/entropy/L01", "latents/entropy_rank/L01/keys",
                                "latents/rank_99/L00/residual"})
            EXPECT_TRUE(tags.contains(tag)) << tag;
        EXPECT_EQ(tags.contains("logits/rope_share/L00"), variant_of(config_).has_scope(Scope::kRope));
    }
    Probe probe(ctx(), model.model(), config_.diagnostics, reader(), 3, folder_.path());
    const std::vector<std::string> messages = probe.poll().messages;
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_NE(messages[0].find("reads 3 sequences"), std::string::npos) << messages[0];
    probe.open(10);
    for (const int64_t step : {10, 30}) probe.observe(step);
    EXPECT_TRUE(probe.drain().messages.empty()) << "said once";
    for (const std::string name : {"logits", "latents"}) {
        std::map<int64_t, size_t> kept, moved;
        for (const auto& line : lines(name + ".jsonl")) ++kept[line.at("step").get<int64_t>()];
        for (const auto& line : lines(name + ".abandoned.jsonl")) ++moved[line.at("step").get<int64_t>()];
        const size_t each = kept[0];
        EXPECT_GE(each, static_cast<size_t>(config_.model.layers * 2));
        EXPECT_EQ(kept, (std::map<int64_t, size_t>{{0, each}, {10, each}, {30, each}})) << name;
        EXPECT_EQ(moved, (std::map<int64_t, size_t>{{20, each}})) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Variants, ActivationProbe, every_target(every_attention()), case_name<VariantCase>);

}  // namespace
}  // namespace pastur::test
