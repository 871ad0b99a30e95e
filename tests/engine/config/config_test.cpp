// Recipes: what is read, what is derived, and what reads back.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "engine/model/attention/variants.h"
#include "tests/engine/config/parse_recipe.h"
#include "tests/support/source_folder.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

TEST(Config, EmptyRecipeIsTheNanoPreset) {
    const Config c = parse("");
    EXPECT_EQ(c.model.vocab, 2048);
    EXPECT_EQ(c.model.d_model, 128);
    EXPECT_EQ(c.model.ffn, 344);
    EXPECT_EQ(c.model.layers, 4);
    EXPECT_EQ(c.model.heads, 4);
    EXPECT_EQ(c.model.kv_heads, 4);
    EXPECT_EQ(c.model.head_dim, 32);
    EXPECT_EQ(c.run.name, "nano-mha");
    EXPECT_EQ(c.run.dir, "runs/nano-mha");
    EXPECT_EQ(c.data.train, "");
}

TEST(Config, PresetsHaveTheSizesOfTheDesign) {
    struct Expected {
        const char* name;
        int64_t vocab, width, ffn, layers, heads;
    };
    for (const Expected& e :
         {Expected{"nano", 2048, 128, 344, 4, 4}, Expected{"30m", 32000, 512, 1376, 9, 8},
          Expected{"60m", 32000, 512, 1376, 8, 8}, Expected{"130m", 32000, 768, 2048, 12, 12},
          Expected{"350m", 32000, 1024, 2736, 24, 16}, Expected{"1b", 32000, 2048, 5461, 24, 32},
          Expected{"7b", 32000, 4096, 11008, 32, 32}}) {
        const ModelConfig m = parse("", {{"model.preset", e.name}}).model;
        EXPECT_EQ(std::tie(m.vocab, m.d_model, m.ffn, m.layers, m.heads),
                  std::tie(e.vocab, e.width, e.ffn, e.layers, e.heads))
            << e.name;
    }
}

TEST(Config, DefaultsYieldToPresetRecipeAndOverride) {
    const std::string recipe = "[model]\npreset = \"30m\"\nlayers = 3\n[train]\nlr = 0.5\nsteps = 7\n";
    const Config c = parse(recipe, {{"train.lr", "0.25"}, {"train.lr", "0.125"}, {"model.preset", "130m"}});
    EXPECT_EQ(c.model.d_model, 768);  // from the overriding preset
    EXPECT_EQ(c.model.layers, 3);     // a preset does not change what the recipe sets
    EXPECT_EQ(c.train.lr, 0.125);     // the last override
    EXPECT_EQ(c.train.steps, 7);
    EXPECT_EQ(c.train.beta2, 0.999);
    EXPECT_EQ(c.run.name, "130m-mha");
}

TEST(Config, DerivesTheSizesOfEachVariant) {
    const Config decoupled = parse(variant("mla-decoupled"), {{"model.preset", "130m"}});
    EXPECT_EQ(decoupled.attention.kv_rank, 384);
    EXPECT_EQ(decoupled.attention.nope_dim, 32);
    EXPECT_EQ(decoupled.attention.rope_dim, 32);
    EXPECT_EQ(decoupled.attention.v_dim, 64);
    EXPECT_EQ(decoupled.attention.q_rank, 0);
    EXPECT_EQ(decoupled.attention.k_rank, 0);
    EXPECT_TRUE(decoupled.attention.latent_norm);
    const Config prerope = parse(variant("mla-prerope"), {{"model.preset", "130m"}});
    EXPECT_EQ(prerope.attention.k_rank, 192);
    EXPECT_EQ(prerope.attention.v_rank, 192);
    EXPECT_EQ(prerope.attention.kv_rank, 0);
    EXPECT_FALSE(prerope.attention.latent_norm);
    const Config input =
        parse(variant("mla-prerope") + "prerope_site = \"input\"", {{"model.preset", "130m"}});
    EXPECT_EQ(input.attention.kv_rank, 384);
    EXPECT_EQ(input.attention.k_rank, 0);
    const Config shared = parse(variant("mha-shared-rope"), {{"model.preset", "130m"}});
    EXPECT_EQ(shared.attention.nope_dim, 32);
    EXPECT_EQ(shared.attention.rope_dim, 32);
    EXPECT_EQ(shared.attention.v_dim, 64);
    EXPECT_EQ(shared.attention.kv_rank, 0);
    EXPECT_FALSE(shared.attention.latent_norm);
    for (const char* name : {"mla-rope", "mla-nope"}) {
        const Config latent = parse(variant(name), {{"model.preset", "130m"}});
        EXPECT_EQ(latent.attention.kv_rank, 384);
        EXPECT_EQ(latent.attention.v_dim, 64);
        EXPECT_EQ(latent.attention.nope_dim, 0);
        EXPECT_TRUE(latent.attention.latent_norm);
    }
}

/// A recipe of every variant at each of these sizes, which differ from one another in [attention] and nothing
/// else, and in which no setting is ignored.
TEST(Config, EveryVariantHasARecipeOfEverySize) {
    for (const std::string size : {"nano", "30m", "130m", "1b"}) {
        const Config base = load_config(source_file("tools/recipes/" + size + "-mha.toml"), {});
        for (const std::string& name : variant_names()) {
            SCOPED_TRACE(size + "-" + name);
            std::vector<std::string> ignored;
            const Config config =
                load_config(source_file("tools/recipes/" + size + "-" + name + ".toml"), {}, 1, &ignored);
            EXPECT_EQ(ignored, std::vector<std::string>{});
            EXPECT_EQ(name_of(config.attention.variant), name);
            Config expected = with_variant(base, config.attention.variant);
            expected.run = config.run;  // its name
            EXPECT_EQ(to_toml(expected), to_toml(config));
        }
    }
}

TEST(Config, AnotherVariantKeepsChosenScopesThatItHas) {
    const std::string decoupled = "[attention]\nvariant = \"mla-decoupled\"\n";
    const Config chosen = parse_config(
        decoupled + "[diagnostics]\nscopes = [\"layer\", \"rope\", \"positions\", \"latents\"]\n", "r", {});
    EXPECT_EQ(with_variant(chosen, variant_named("mha")).diagnostics.scopes,
              (std::vector{Scope::kLayer, Scope::kPositions, Scope::kLatents}));
    EXPECT_EQ(with_variant(chosen, variant_named("mtla")).diagnostics.scopes, chosen.diagnostics.scopes);
    EXPECT_EQ(with_variant(parse_config(decoupled, "r", {}), variant_named("mha")).diagnostics.scopes,
              (std::vector{Scope::kHead, Scope::kLayer, Scope::kLogits}));
}

TEST(Config, CacheOfEachVariant) {
    // Numbers per token and layer at 130m: 12 heads of 64, d_model 768.
    const std::map<std::string, int64_t> cached = {
        {"mha", 2 * 768},           {"mha-nope", 2 * 768}, {"mha-shared-rope", 12 * (32 + 64) + 32},
        {"mla-prerope", 384},       {"mla-rope", 384},     {"mla-nope", 384},
        {"mla-decoupled", 384 + 32}};
    for (const auto& [name, count] : cached) {
        const Config config = parse(variant(name), {{"model.preset", "130m"}});
        EXPECT_EQ(variant_of(config).cache_values(config), count) << name;
    }
}

TEST(Config, DerivesMicroBatchAndPaths) {
    EXPECT_EQ(default_micro_batch(512, 256, 768), 256);
    const std::string batch = "[train]\nglobal_batch = 16\n[data]\nseq_len = 128\n";
    EXPECT_EQ(parse_config(batch, "r", {}).train.micro_batch, 16);
    EXPECT_EQ(parse_config(batch, "r", {}, /*ranks=*/2).train.micro_batch, 8);
    EXPECT_THROW(parse_config(batch, "r", {}, /*ranks=*/3), Error);
    EXPECT_EQ(default_micro_batch(96, 1024, 2048), 32);
    EXPECT_EQ(default_micro_batch(97, 1024, 768), 1);  // a prime has no other divisor
    EXPECT_EQ(default_micro_batch(8, 1 << 20, 768), 1);
    EXPECT_EQ(default_micro_batch(8, 16, 768), 8);
    const Config c = parse("[data]\ndir = \"corpus/\"\nval = \"other/*.bin\"\n");
    EXPECT_EQ(c.data.train, "corpus/train_*.bin");
    EXPECT_EQ(c.data.val, "other/*.bin");
    EXPECT_EQ(c.train.micro_batch, 32);
}

TEST(Config, AFolderOverTheResolvedRecipeReplacesItsGlobs) {
    const std::string resolved = to_toml(parse("[data]\ndir = \"a\"\n"));
    EXPECT_EQ(parse(resolved, {{"data.dir", "b"}}).data.train, "b/train_*.bin");
    EXPECT_EQ(parse(resolved, {{"data.dir", "b"}, {"data.train", "c"}}).data.train, "c");
    EXPECT_EQ(parse(resolved, {{"run.name", "x"}}).run.dir, "runs/x");
}

TEST(Config, AFolderOfShardsIsNotAPattern) {
    const Config c = parse("", {{"data.dir", "tok[v2]/{a,b}*"}});
    EXPECT_EQ(c.data.train, "tok\\[v2]/\\{a,b\\}\\*/train_*.bin");
    EXPECT_EQ(parse(to_toml(c)).data.train, c.data.train);
}

TEST(Config, ReadsBackWhatItWrites) {
    Overrides odd = {{"train.lr", "0.1"},
                     {"train.eps", "1e-30"},
                     {"train.beta1", "0.30000000000000004"},
                     {"model.norm_eps", "3e-07"},
                     {"train.grad_clip", "1e22"},
                     {"train.seed", "4611686018427387904"},
                     {"run.name", "a \"b\" \\ \xc3\xa9"},
                     {"data.dir", "d'x"}};
    for (const std::string& name : variant_names()) {
        Overrides overrides = odd;
        overrides.emplace_back("attention.variant", name);
        const Config c = parse("", overrides);
        EXPECT_EQ(c.train.beta1, 0.30000000000000004);
        EXPECT_EQ(c.train.seed, uint64_t{1} << 62);
        EXPECT_TRUE(parse(to_toml(c)) == c) << to_toml(c);
    }
}

TEST(Config, DescribesEveryKeyThatItWrites) {
    const std::string help = describe_config_keys();
    std::istringstream dump(to_toml(parse("")));
    std::string section;
    int keys = 0;
    for (std::string line; std::getline(dump, line);) {
        if (line.empty()) continue;
        if (line[0] == '[') {
            section = line.substr(1, line.size() - 2);
            continue;
        }
        ++keys;
        EXPECT_NE(help.find("  " + section + "." + line.substr(0, line.find(' ')) + " "), std::string::npos)
            << line;
    }
    EXPECT_GE(keys, 45);
}

TEST(Config, DiagnosticsFollowTheVariant) {
    EXPECT_EQ(parse("").diagnostics.scopes,
              (std::vector<Scope>{Scope::kHead, Scope::kLayer, Scope::kLogits}));
    const Config decoupled = parse(variant("mla-decoupled"));
    EXPECT_EQ(decoupled.diagnostics.scopes, (std::vector<Scope>{Scope::kHead, Scope::kLayer, Scope::kContent,
                                                                Scope::kRope, Scope::kLogits}));
    const Config chosen = parse("[diagnostics]\nearly = [0, 7]\nscopes = [\"weights\"]\n",
                                {{"diagnostics.nulls", "mp,permuted"}});
    EXPECT_EQ(chosen.diagnostics.early, (std::vector<int64_t>{0, 7}));
    EXPECT_EQ(chosen.diagnostics.scopes, std::vector<Scope>{Scope::kWeights});
    EXPECT_EQ(chosen.diagnostics.nulls, (std::vector<NullKind>{NullKind::kMp, NullKind::kPermuted}));
    EXPECT_TRUE(parse("[diagnostics]\nearly = []\n").diagnostics.early.empty());
    EXPECT_TRUE(parse("", {{"diagnostics.early", ""}}).diagnostics.early.empty());
}

TEST(Config, TakesListsOnTheCommandLineAsARecipeWritesThem) {
    const Config config = parse("", {{"diagnostics.early", "[0, 7]"}, {"diagnostics.nulls", "[\"mp\"]"}});
    EXPECT_EQ(config.diagnostics.early, (std::vector<int64_t>{0, 7}));
    EXPECT_EQ(config.diagnostics.nulls, std::vector<NullKind>{NullKind::kMp});
    EXPECT_TRUE(parse("", {{"diagnostics.early", "[]"}}).diagnostics.early.empty());
    for (const char* early : {"[0", "[0]]", "[0, x]", "[0] other = 1", "[0.5]", "[", "0]"})
        expect_usage("", {"--diagnostics.early=", "expected a list of integers"},
                     {{"diagnostics.early", early}});
}

/// Parses, and checks that one setting was ignored per entry of `lines`, with those parts in its message.
Config expect_ignored(const std::string& toml, const std::vector<std::vector<std::string>>& lines,
                      const Overrides& overrides = {}) {
    SCOPED_TRACE(toml);
    std::vector<std::string> ignored;
    const Config config = parse_config(toml, "recipe.toml", overrides, 1, &ignored);
    EXPECT_EQ(ignored.size(), lines.size());
    for (size_t i = 0; i < std::min(ignored.size(), lines.size()); ++i)
        for (const std::string& part : lines[i])
            EXPECT_NE(ignored[i].find(part), std::string::npos) << part << " in " << ignored[i];
    // A resolved recipe reads back without a message.
    std::vector<std::string> again;
    EXPECT_TRUE(parse_config(to_toml(config), "resolved.toml", {}, 1, &again) == config);
    EXPECT_TRUE(again.empty()) << again.front();
    return config;
}

TEST(Config, IgnoresKeysOfAnotherVariantWithALine) {
    const Config mha = expect_ignored(
        "[attention]\nkv_rank = 64\nlatent_norm = true\nprerope_site = \"input\"\n",
        {{"recipe.toml:2: [attention] kv_rank = 64 is ignored",
          "\"mla-prerope\" with prerope_site = \"input\", \"mla-decoupled\" or \"mtla\", and this one is \"mha\""},
         {"recipe.toml:3:", "latent_norm = true",
          "variant \"mla-nope\", \"mla-rope\", \"mla-prerope\" or \"mla-decoupled\","},
         {"recipe.toml:4:", "prerope_site = \"input\"", "\"mla-prerope\""}});
    EXPECT_TRUE(mha == parse(""));
    EXPECT_TRUE(
        expect_ignored(variant("mla-decoupled") + "k_rank = 8\n",
                       {{"recipe.toml:3:", "k_rank = 8", "\"mla-prerope\" with prerope_site = \"keys\""}}) ==
        parse(variant("mla-decoupled")));
    expect_ignored(variant("mla-prerope") + "kv_rank = 8\n", {{"kv_rank", "prerope_site = \"input\""}});
    expect_ignored(variant("mla-prerope") + "prerope_site = \"input\"\nk_rank = 8\n",
                   {{"k_rank", "prerope_site = \"keys\""}});
    expect_ignored(variant("mla-prerope") + "rope_dim = 8\n",
                   {{"rope_dim", "\"mha-shared-rope\", \"mla-decoupled\" or \"mtla\""}});
    expect_ignored(variant("mla-rope") + "rope_dim = 8\nnope_dim = 4\n", {{"nope_dim"}, {"rope_dim"}});
    expect_ignored(variant("mha-shared-rope") + "kv_rank = 8\n", {{"kv_rank", "\"mha-shared-rope\""}});
    const Config grouped = expect_ignored(variant("mla-decoupled"),
                                          {{"--model.kv_heads: ", "kv_heads = 2", "\"mha\" or \"mha-nope\""}},
                                          {{"model.kv_heads", "2"}});
    EXPECT_EQ(grouped.model.kv_heads, grouped.model.heads);
    expect_ignored("[attention]\nkv_rank = 0\n", {});  // 0 asks for nothing
}

TEST(Config, ALatentGainBelongsToNormalisedLatents) {
    const std::string gain = "latent_gain = \"sqrt\"\n";
    for (const char* name : {"mla-decoupled", "mla-rope", "mla-nope"}) {
        const Config config = expect_ignored(variant(name) + gain, {}, {{"model.preset", "130m"}});
        EXPECT_EQ(latent_gain(config, config.attention.kv_rank), std::sqrt(2.0f));
        EXPECT_EQ(latent_gain(parse(variant(name)), 7), 1);
        EXPECT_FALSE(expect_ignored(variant(name) + "latent_norm = false\n", {}).attention.latent_norm);
    }
    expect_ignored(variant("mla-prerope") + "latent_norm = true\n" + gain, {});
    const std::vector<std::string> ignored = {"latent_gain", "\"mla-prerope\" with latent_norm = true"};
    expect_ignored(variant("mla-prerope") + gain, {ignored});
    expect_ignored(variant("mha") + gain, {ignored});
}

TEST(Config, ChecksThePositionsOfTheirScope) {
    const auto with = [](const char* positions) {
        return parse("[data]\nseq_len = 16\n", {{"diagnostics.positions", positions}});
    };
    EXPECT_EQ(with("0,0,15,3").diagnostics.positions, (std::vector<int64_t>{0, 0, 15, 3}));
    expect_error(ExitCode::kUsage, {"positions", "pairs", "3 numbers"}, [&] { with("0,0,15"); });
    expect_error(ExitCode::kUsage, {"positions", "seq_len", "got 16"}, [&] { with("0,0,16,3"); });
    expect_error(ExitCode::kUsage, {"positions"}, [&] { with("-1,0"); });
}

TEST(Config, HeadNormsBelongToVariantsWhoseKeysArePerHeadBeforeTheirRotation) {
    for (const char* name :
         {"mha", "mha-nope", "mha-shared-rope", "mla-nope", "mla-rope", "mla-prerope", "mla-decoupled"})
        EXPECT_EQ(expect_ignored(variant(name) + "qk_norm = \"head\"\n", {}).attention.qk_norm,
                  QkNorm::kHead);
    expect_ignored(variant("mla-prerope") + "prerope_site = \"input\"\nqk_norm = \"head\"\n",
                   {{"qk_norm", "\"mla-prerope\" with prerope_site = \"keys\""}});
}

TEST(Config, IgnoresScopesThatTheVariantLacksWithALine) {
    const std::string scopes = "[diagnostics]\nscopes = [\"layer\", \"content\", \"rope\"]\n";
    EXPECT_EQ(expect_ignored(scopes, {{"recipe.toml:2:", "\"content\" is ignored", "\"mha\""}, {"\"rope\""}})
                  .diagnostics.scopes,
              std::vector<Scope>{Scope::kLayer});
    EXPECT_EQ(expect_ignored(scopes, {}, {{"attention.variant", "mla-decoupled"}}).diagnostics.scopes,
              (std::vector<Scope>{Scope::kLayer, Scope::kContent, Scope::kRope}));
    // If none remains, the defaults of the variant.
    EXPECT_EQ(expect_ignored("", {{"--diagnostics.scopes: ", "\"rope\""}}, {{"diagnostics.scopes", "rope"}})
                  .diagnostics.scopes,
              (std::vector<Scope>{Scope::kHead, Scope::kLayer, Scope::kLogits}));
}

TEST(Config, LoadsFromAFile) {
    const TempFolder folder;
    const std::string path = folder.path() / "r.toml";
    std::ofstream(path) << "[train]\nsteps = 3\n\nlrr = 1\n";
    expect_error(ExitCode::kUsage, {path + ":4: unknown key \"lrr\""}, [&] { load_config(path, {}); });
    std::ofstream(path) << "[train]\nsteps = 3\n";
    EXPECT_EQ(load_config(path, {}).train.steps, 3);
    expect_error(ExitCode::kMissingInput, {folder.path() / "no.toml"},
                 [&] { load_config(folder.path() / "no.toml", {}); });
    expect_error(ExitCode::kUsage, {"is a folder"}, [&] { load_config(folder.path(), {}); });
}

}  // namespace
}  // namespace pastur::test
