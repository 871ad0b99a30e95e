// Conversions of whole models against their sources, on random and on trained weights.
#include "engine/convert/conversion.h"

#include "engine/convert/expansion.h"
#include "engine/model/recipe.h"
#include "tests/engine/convert/reference_logits.h"
#include "tests/support/expect_error.h"
#include "tests/support/model_harness.h"
#include "tests/support/training_line.h"

namespace pastur::test {
namespace {

using convert::ConvertedModel;
using convert::ConvertOptions;
using convert::RotationKind;
using convert::WeightSet;

constexpr double kTolerance = 1e-4;
constexpr int64_t kTime = 24;

/// Logits [N, V] of the engine.
Values engine_logits(const WeightSet& weights, const ReferenceText& text) {
    Context& ctx = context(Device::kCpu);
    Config config = weights.config;
    config.data.seq_len = text.time;
    ModelUnderTest model(config, ctx, DType::kF32, {text.batch, text.time});
    fill_weights(ctx, model.model().params(), weights.read);
    model.forward({text.tokens, text.tokens});
    return model.logits();
}

double distance(const Values& a, const Values& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        if (!(std::abs(a[i] - b[i]) < 1e30)) return INFINITY;
        largest = std::max(largest, std::abs(a[i] - b[i]));
    }
    return largest;
}

/// Random text of a model: other tokens for every seed.
ReferenceText random_text(const Config& config, int64_t batch, uint64_t seed) {
    Random random(seed);
    return {random.ids(batch * kTime, config.model.vocab), batch, kTime};
}
convert::TokenSequences sequences_of(const ReferenceText& text) {
    return {text.batch, text.time - 1, [text](int64_t i, std::span<int32_t> out) {
                std::copy_n(text.tokens.begin() + i * text.time, out.size(), out.begin());
            }};
}

/// A source model and what a conversion measures of it.
struct Source {
    Config config;
    ReadTensor read;
    std::vector<Matrix> moments;

    Source(const Config& of, const ReadTensor& reader, const convert::TokenSequences& text)
        : config(of), read(reader) {
        convert::ForwardModel forward(context(Device::kCpu), {config, read}, text.seq_len);
        moments = convert::input_moments(forward, config, text);
    }
    WeightSet weights() const { return {config, read}; }
    ConvertedModel convert(const ConvertOptions& options) const {
        return convert::convert_to_decoupled(config, read, moments, convert::resolve(options, config));
    }
};

/// Weights of the architecture that give activations of unit scale.
ReadTensor random_reader(const Config& config) {
    Random random(7);
    ModelUnderTest model(config, context(Device::kCpu), DType::kF32, {1, kTime});
    const NamedValues weights = model.random_weights(random, DType::kF32);
    return [weights](const std::string& name) {
        const std::vector<double>& values = weights.at(name);
        return std::vector<float>(values.begin(), values.end());
    };
}

Source random_source(const std::string& settings) {
    Config config =
        parse_config("[model]\nvocab = 61\nd_model = 24\nlayers = 2\nheads = 4\nhead_dim = 12\nffn = 20\n" +
                         settings + "[data]\nseq_len = 24\n",
                     "test", {});
    return {config, random_reader(config), sequences_of(random_text(config, 12, 1))};
}

/// Stages 0 and 1, and the partial-RoPE model at full rank, against the source.
void expect_exact_stages(const Source& source) {
    const ReferenceText text = random_text(source.config, 2, 2);
    const Values want = engine_logits(source.weights(), text);
    const HeadSizes sizes = convert::head_sizes(source.config);
    for (const RotationKind rotation : {RotationKind::kReal, RotationKind::kComplex}) {
        const auto groups_of = [&](int64_t layer, const convert::RopePlan& plan) {
            return convert::rotate_frequencies(source_layer(source.config, source.read, layer).keys,
                                               source.moments[static_cast<size_t>(layer)], sizes, plan,
                                               rotation);
        };
        const auto stacked = [&](int64_t layer, const Values& x) {
            const SourceLayer from = source_layer(source.config, source.read, layer);
            return stacked_attention(stacked_layer(from, groups_of(layer, {sizes.head_dim, 1}), sizes),
                                     from.values, x, source.config, text);
        };
        EXPECT_LT(distance(reference_logits(source.config, source.read, text, stacked), want), kTolerance);

        for (const int64_t step : {1, 2}) {
            const ConvertOptions options =
                convert::resolve({.rope_dim = sizes.head_dim / step, .rotation = rotation}, source.config);
            const auto partial = [&](int64_t layer, const Values& x) {
                const SourceLayer from = source_layer(source.config, source.read, layer);
                const convert::RopePlan plan{options.rope_dim, options.fold};
                return partial_rope_attention(
                    convert::split_rope(from.queries, from.keys, groups_of(layer, plan), sizes, plan), from,
                    x, source.config, options.rope_dim, text);
            };
            const ConvertedModel model = source.convert(options);
            const Values got = engine_logits(model.weights(source.read), text);
            EXPECT_LT(distance(got, reference_logits(source.config, source.read, text, partial)), kTolerance);
            if (sizes.kv_heads == 1 && step == 1) {
                EXPECT_LT(distance(got, want), kTolerance);  // nothing was left without RoPE
            }
        }
    }
}

void expect_complex_keeps_more(const Source& source) {
    for (const int64_t step : {1, 2}) {
        ConvertOptions options{.kv_rank = 6, .rope_dim = source.config.model.head_dim / step};
        options.rotation = RotationKind::kReal;
        const ConvertedModel real = source.convert(options);
        options.rotation = RotationKind::kComplex;
        const ConvertedModel complex = source.convert(options);
        for (size_t layer = 0; layer < real.layers.size(); ++layer)
            EXPECT_GE(complex.layers[layer].rope, real.layers[layer].rope - 1e-12);
    }
}

TEST(Conversion, StagesOfRandomModelsAreExactAndComplexKeepsMore) {
    for (const char* settings : {"kv_heads = 4\n", "kv_heads = 2\ntie_embeddings = true\n", "kv_heads = 1\n",
                                 "kv_heads = 4\ntie_embeddings = true\nrope_theta = 500.0\n"}) {
        SCOPED_TRACE(settings);
        const Source source = random_source(settings);
        expect_exact_stages(source);
        expect_complex_keeps_more(source);
    }
}

TEST(Conversion, QueriesOfFullRankAreExactAndEnergyGrowsWithTheRank) {
    const Source source = random_source("kv_heads = 2\n");
    const ReferenceText text = random_text(source.config, 2, 3);
    const Values plain = engine_logits(source.convert({}).weights(source.read), text);
    const ConvertedModel full = source.convert({.q_rank = source.config.model.d_model});
    EXPECT_LT(distance(engine_logits(full.weights(source.read), text), plain), kTolerance);
    convert::LayerReport last{.keys = -1, .values = -1, .queries = 0};
    for (const int64_t rank : {2, 6, 12, 24}) {
        const convert::LayerReport layer = source.convert({.kv_rank = rank, .q_rank = rank}).layers.front();
        EXPECT_GT(layer.keys + layer.values, last.keys + last.values);
        EXPECT_GT(layer.queries, last.queries);
        last = layer;
    }
    EXPECT_NEAR(last.keys, 1, 1e-6);
    EXPECT_NEAR(last.queries, 1, 1e-6);
}

TEST(Conversion, RefusesWhatItCannotConvert) {
    const auto refused = [](const std::string& attention, const ConvertOptions& options,
                            std::initializer_list<std::string> parts) {
        const Config config = parse_config("[model]\nhead_dim = 12\nkv_heads = 2\n" + attention, "test", {});
        expect_error(ExitCode::kUsage, parts, [&] { convert::resolve(options, config); });
    };
    refused("", {.rope_dim = 8}, {"--rope-dim 8", "2, 4, 6, 12", "12"});
    refused("", {.rope_dim = 24}, {"--rope-dim 24"});
    refused("", {.fold = 4}, {"--fold 4: expected 1, 2, 3, 6"});
    refused("", {.rope_dim = 4, .fold = 2}, {"--fold 2: expected 1, 3, 6"});
    refused("", {.kv_rank = 37}, {"--kv-rank 37: expected 1 to 36"});
    refused("", {.kv_rank = -1}, {"--kv-rank -1"});
    refused("", {.q_rank = 49}, {"--q-rank 49: expected 1 to 48"});
    refused("[attention]\nqk_norm = \"head\"\n", {}, {"qk_norm", "linear"});
    refused("[attention]\nvariant = \"mha-nope\"\n", {},
            {"expected a model of attention.variant \"mha\"", "mha-nope"});
}

TEST(Conversion, LatentsWithoutNormMultiplyOut) {
    struct Way {
        const char *from, *to, *settings;
    };
    for (const Way& way :
         {Way{"mla-decoupled", "mha-shared-rope", "nope_dim = 5\nrope_dim = 6\nv_dim = 7\nq_rank = 9\n"},
          Way{"mla-decoupled", "mha-shared-rope", "nope_dim = 4\nrope_dim = 2\nqk_norm = \"head\"\n"},
          Way{"mla-rope", "mha", "kv_rank = 10\n"}, Way{"mla-nope", "mha-nope", "q_rank = 11\n"}}) {
        SCOPED_TRACE(way.from);
        const Config config = parse_config(
            "[model]\nvocab = 61\nd_model = 24\nlayers = 2\nheads = 4\nhead_dim = 6\nffn = 20\n[attention]\nlatent_norm = "
            "false\n" +
                fmt::format("variant = \"{}\"\n{}", way.from, way.settings),
            "test", {});
        const WeightSet source{config, random_reader(config)};
        const ReferenceText text = random_text(config, 2, 4);
        const ConvertedModel model = convert::multiply_out(config, source.read, variant_named(way.to));
        EXPECT_STREQ(variant_of(model.config).name, way.to);
        EXPECT_LT(distance(engine_logits(model.weights(source.read), text), engine_logits(source, text)),
                  kTolerance);
    }
}

TEST(Conversion, RefusesToMultiplyOutWhatTheOtherVariantCannotExpress) {
    const auto refused = [](const std::string& attention, const char* to,
                            std::initializer_list<std::string> parts) {
        const Config config = parse_config("[attention]\n" + attention, "test", {});
        expect_error(ExitCode::kUsage, parts, [&] { convert::multiply_out(config, {}, variant_named(to)); });
    };
    refused("variant = \"mla-decoupled\"\nlatent_norm = false\n", "mha",
            {"mha-shared-rope", "rotates every column", "16 of"});
    refused("variant = \"mla-decoupled\"\n", "mha-shared-rope", {"latent_norm = false", "norm"});
    refused("variant = \"mla-rope\"\nlatent_norm = false\nv_dim = 8\n", "mha",
            {"v_dim = 8", "head_dim = 32"});
    refused("variant = \"mla-prerope\"\n", "mha", {"mla-rope to mha", "mla-prerope"});
}

/// A model trained for some steps on stories, as `pastur train` leaves it.
class TrainedConversion : public TrainingLine {
  protected:
    void check(const std::string& settings) const {
        const Result trained = run(
            "train r.toml --run run --device cpu --diagnostics.every=0 --diagnostics.early=[] --train.steps=60 "
            "--train.global_batch=16 --train.lr=3e-3 --model.d_model=32 --model.ffn=48 --model.heads=4 "
            "--data.seq_len=32 --checkpoint.every=0 " +
            settings);
        ASSERT_EQ(trained.code, 0) << trained.err;
        const ModelFolder folder(file("run"));
        convert::TextOptions options{.calibrate = file("corpus"), .eval = "", .seq_len = 32};
        options.calibrate_tokens = options.eval_tokens = 4096;
        const convert::CalibrationText text = convert::open_text(options, folder);
        const Source source(
            folder.config(), [&](const std::string& name) { return folder.read(name); }, text.calibrate);
        expect_exact_stages(source);
        expect_complex_keeps_more(source);
        expect_nearly_identical_norm(source, text);
    }

    static void expect_nearly_identical_norm(const Source& source, const convert::CalibrationText& text) {
        Context& ctx = context(Device::kCpu);
        const auto loss = [&](const ConvertedModel& model) {
            return convert::ForwardModel(ctx, model.weights(source.read), text.eval.seq_len).loss(text.eval);
        };
        ConvertedModel model = source.convert({.kv_rank = 16, .q_rank = 16});
        const double before = loss(model);
        convert::normalise_latents(ctx, model, source.read, source.moments, text.calibrate);
        EXPECT_TRUE(model.config.attention.latent_norm);
        EXPECT_LT(std::abs(std::expm1(loss(model) - before)), 1e-3);
        for (const convert::LayerReport& layer : model.layers) EXPECT_LT(layer.kv_spread, 0.2);
    }
};

TEST_F(TrainedConversion, StagesAreExactAndNormsBeginAsIdentities) {
    check("--model.kv_heads=4");
    fs::remove_all(file("run"));
    check("--model.kv_heads=2 --model.tie_embeddings=true");
}

}  // namespace
}  // namespace pastur::test
