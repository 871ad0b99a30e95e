// Recipes: what is read, what is derived, and the message for every mistake.
#include "engine/config/config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/model/recipe.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using test::expect_error;
using Overrides = std::vector<Override>;

Config parse(const std::string& toml, const Overrides& overrides = {}) {
    return parse_config(toml, "recipe.toml", overrides);
}

void expect_usage(const std::string& toml, std::initializer_list<std::string> parts,
                  const Overrides& overrides = {}) {
    SCOPED_TRACE(toml);
    expect_error(ExitCode::kUsage, parts, [&] { parse(toml, overrides); });
}

std::string variant(const std::string& name) {
    return "[attention]\nvariant = \"" + name + "\"\n";
}

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
    for (const char* name : {"mha", "mla-prerope", "mla-decoupled"}) {
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

TEST(ConfigError, NamesFileLineKeyAndType) {
    expect_usage("[model]\n\n[train]\nlr = \"fast\"\n",
                 {"recipe.toml:4: [train] lr = ", "fast", "expected a number"});
    expect_usage("[train]\nsteps = 1.5\n", {"recipe.toml:2: [train] steps = 1.5: expected an integer"});
    expect_usage("[train]\nsteps = true\n", {"recipe.toml:2:", "expected an integer"});
    expect_usage("[run]\nname = 3\n", {"recipe.toml:2:", "expected text"});
    expect_usage("[model]\ntie_embeddings = 1\n", {"recipe.toml:2:", "expected true or false"});
    expect_usage("[train]\nlr = [1.0]\n", {"recipe.toml:2:", "expected a number"});
    expect_usage("[train]\nlr = 1979-05-27\n", {"recipe.toml:2:", "expected a number"});
    expect_usage("[train]\nseed = -1\n", {"recipe.toml:2:", "expected an integer"});
    EXPECT_EQ(parse("[train]\nlr = 1\n").train.lr, 1.0);  // an integer is a number
    EXPECT_EQ(parse("\xef\xbb\xbf[train] # \xc3\xa9...............................\r\nsteps = 1_000\r\n")
                  .train.steps,
              1000);
    EXPECT_EQ(parse("[run]\nname = '\xc3\xa9 \"' # x\n").run.name, "\xc3\xa9 \"");
}

TEST(ConfigError, NamesTheNearestKeyOrSection) {
    expect_usage("[train]\nsteps = 3\nlrr = 1\n",
                 {"recipe.toml:3:", "unknown key \"lrr\" in [train]", "\"lr\"?"});
    expect_usage("[train]\nwarmup = 1\n", {"recipe.toml:2:", "\"warmup_steps\"?"});
    expect_usage("[trian]\nlr = 1\n", {"recipe.toml:1: unknown section [trian]", "[train]?"});
    expect_usage("[model]\nlr = 1\n", {"recipe.toml:2:", "\"lr\" belongs to [train]"});
    expect_usage("lr = 1\n", {"recipe.toml:1:", "[train] lr?"});
    expect_usage("train = 1\n", {"recipe.toml:1:", "expected a section, written [train]"});
    expect_usage("[[train]]\nlr = 1\n", {"recipe.toml:1:", "expected a section, written [train]"});
    expect_usage("[train.lr]\nx = 1\n", {"recipe.toml:1:", "expected a number"});
    expect_usage(variant("mla-decopled"), {"recipe.toml:2:", "did you mean \"mla-decoupled\"?"});
    expect_usage("[model]\npreset = \"131m\"\n", {"recipe.toml:2:", "did you mean \"130m\"?"});
    expect_usage("[train]\nschedule = \"cosin\"\n", {"did you mean \"cosine\"?"});
}

TEST(ConfigError, NamesTheOverride) {
    expect_usage("", {"--train.lr=fast: expected a number"}, {{"train.lr", "fast"}});
    expect_usage("", {"--train.lr=: expected a number"}, {{"train.lr", ""}});
    expect_usage("", {"--train.steps=1e3: expected an integer"}, {{"train.steps", "1e3"}});
    expect_usage("", {"--train.steps=99999999999999999999: expected an integer"},
                 {{"train.steps", "99999999999999999999"}});
    expect_usage("", {"--model.tie_embeddings=yes: expected true or false"},
                 {{"model.tie_embeddings", "yes"}});
    expect_usage("", {"--train.lrr=1: unknown key \"lrr\"", "\"lr\"?"}, {{"train.lrr", "1"}});
    expect_usage("", {"--trian.lr=1: unknown section [trian]", "[train]?"}, {{"trian.lr", "1"}});
    expect_usage("", {"--lr=1: expected --section.key=value"}, {{"lr", "1"}});
    expect_usage("", {"--run.name=a"}, {{"run.name", "a\xff"}});
    EXPECT_EQ(parse("", {{"train.lr", "+1e-3"}}).train.lr, 1e-3);
}

TEST(ConfigError, ReportsBrokenToml) {
    expect_usage("[train]\nlr = \n", {"recipe.toml:2:"});
    expect_usage("[train]\nlr = 1\nlr = 2\n", {"recipe.toml:3:", "lr"});
    expect_usage("[train]\n[model]\n[train]\n", {"recipe.toml:3:", "train"});
    expect_usage("[train]\nlr = 1 garbage\n", {"recipe.toml:2:"});
    expect_usage("[train\n", {"recipe.toml:1:"});
    for (const char* header : {"[=]", "[\n", "  [ .a]", "[[=]]", "[", "[]"})
        expect_usage(std::string("[train]\n") + header, {"recipe.toml:2: expected a section's name"});
    for (const char* line : {"lr = \xc3\xa9", "lr = \xe2\x80\x9cx\xe2\x80\x9d", "\xc2\xa0[train]",
                             "lr = \"\" \xc3\xa9 # \"", "lr = \x01"})
        expect_usage(std::string("[train]\n") + line, {"recipe.toml:2: unexpected character at column"});
    expect_usage("[run]\nname = \"\"\"\na\"\"\"\n", {"recipe.toml:2: expected text on one line"});
    expect_usage(std::string("[run]\nname = \"\xff\"\n"), {"recipe.toml:2:"});
    expect_usage("[run]\nname = \"a\\u0000b\"\n", {"recipe.toml:2:", "control characters"});
}

TEST(Config, DiagnosticsFollowTheVariant) {
    EXPECT_EQ(parse("").diagnostics.scopes, (std::vector<Scope>{Scope::kHead, Scope::kLayer}));
    const Config decoupled = parse(variant("mla-decoupled"));
    EXPECT_EQ(decoupled.diagnostics.scopes,
              (std::vector<Scope>{Scope::kHead, Scope::kLayer, Scope::kContent, Scope::kRope}));
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

TEST(ConfigError, ChecksEveryItemOfAList) {
    expect_usage("[diagnostics]\nscopes = [\"head\", \"layr\"]\n",
                 {"recipe.toml:2:", "did you mean \"layer\"?"});
    expect_usage("[diagnostics]\nscopes = \"head\"\n", {"recipe.toml:2:", "expected a list of texts"});
    expect_usage("[diagnostics]\nearly = [1, -1]\n", {"recipe.toml:2:", "0"});
    expect_usage("[diagnostics]\nearly = [1, 1.5]\n", {"recipe.toml:2:", "expected a list of integers"});
    expect_usage("[diagnostics]\nearly = true\n", {"recipe.toml:2:", "expected a list of integers"});
    expect_usage("[diagnostics]\nnulls = []\n", {"nulls = [] (recipe.toml:2)", "expected one or more"});
    expect_usage("[diagnostics]\ntw_quantile = 1.0\n", {"recipe.toml:2:", "0.9999"});
}

TEST(ConfigError, BoundsWhatItReads) {
    expect_usage(std::string(100'000, '#'), {"recipe.toml: expected a recipe of at most 65536 bytes"});
    expect_usage("\na" + std::string(17, '.') + "a = 1\n", {"recipe.toml:2: expected at most 16 dots"});
    std::string deep;  // the deepest text that the rules admit: parsed and destroyed without a stack overflow
    for (int i = 0; i < 120; ++i) deep += "{a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = [\n";
    expect_usage("a = " + deep, {"recipe.toml"});
    for (int i = 0; i < 120; ++i) deep += "]}";
    expect_usage("a = " + deep, {"recipe.toml:1:"});
    expect_usage("[train]\nlr = " + std::string(10'000, '[') + "\n", {"recipe.toml:2:"});
}

TEST(ConfigError, ChecksRanges) {
    for (const auto& [path, value] : Overrides{{"train.lr", "0"},
                                               {"train.lr", "-1"},
                                               {"train.lr", "nan"},
                                               {"train.lr", "inf"},
                                               {"train.beta1", "1"},
                                               {"train.beta2", "-0.1"},
                                               {"train.eps", "0"},
                                               {"train.steps", "0"},
                                               {"model.vocab", "1"},
                                               {"model.heads", "0"},
                                               {"model.layers", "0"},
                                               {"train.grad_clip", "-1"},
                                               {"data.seq_len", "0"},
                                               {"train.final_lr_fraction", "1.1"},
                                               {"checkpoint.keep", "-1"},
                                               {"run.log_every", "0"},
                                               {"model.norm_eps", "0"},
                                               {"model.d_model", "99999999999"},
                                               {"train.weight_decay", "-1"},
                                               {"model.kv_heads", "-1"},
                                               {"train.micro_batch", "-2"}})
        expect_usage("", {"--" + path + "=" + value + ": expected a"}, {{path, value}});
}

TEST(ConfigError, ChecksHeadsAndRotaryWidths) {
    expect_usage("[model]\nheads = 3\n", {"heads = 3 (recipe.toml:2)", "d_model = 128 (preset nano)"});
    expect_usage("[model]\nkv_heads = 3\n", {"kv_heads = 3 (recipe.toml:2)", "heads = 4 (preset nano)"});
    expect_usage("[model]\nhead_dim = 7\n", {"head_dim = 7 (recipe.toml:2)", "even"});
    expect_usage("", {"head_dim = 1 ", "even"}, {{"model.heads", "128"}});
    expect_usage(variant("mla-decoupled"), {"rope_dim = 9 (--attention.rope_dim)", "even"},
                 {{"attention.rope_dim", "9"}});
    EXPECT_EQ(parse("[model]\nheads = 3\nhead_dim = 20\n").model.head_dim,
              20);  // heads need not fill d_model
    expect_usage(variant("mla-prerope"), {"heads = 3 ", "head_dim = 20 ", "d_model = 128 "},
                 {{"attention.prerope_site", "input"}, {"model.heads", "3"}, {"model.head_dim", "20"}});
}

TEST(ConfigError, ChecksRanksAgainstTheWidthTheyCompress) {
    expect_usage(variant("mla-decoupled") + "kv_rank = 129\n",
                 {"kv_rank = 129 (recipe.toml:3)", "d_model = 128"});
    expect_usage(variant("mla-decoupled") + "q_rank = 129\n", {"q_rank = 129", "d_model = 128"});
    expect_usage(variant("mla-prerope") + "k_rank = 129\n", {"k_rank = 129", "heads = 4", "head_dim = 32"});
    expect_usage(variant("mla-prerope") + "v_rank = 129\n", {"v_rank = 129", "d_model = 128"});
    EXPECT_EQ(parse(variant("mla-decoupled") + "kv_rank = 128\n").attention.kv_rank, 128);
}

TEST(ConfigError, ChecksBatchesAndSchedule) {
    expect_usage("[train]\nmicro_batch = 5\n",
                 {"micro_batch = 5 (recipe.toml:2)", "global_batch = 32 (default)"});
    expect_usage("[train]\nwarmup_steps = 20\nsteps = 10\n",
                 {"warmup_steps = 20 (recipe.toml:2)", "steps = 10 (recipe.toml:3)"});
    expect_usage(
        "", {"steps = 1073741824", "global_batch = 16777216", "seq_len = 16777216"},
        {{"train.steps", "1073741824"}, {"train.global_batch", "16777216"}, {"data.seq_len", "16777216"}});
    expect_usage("[run]\nname = \"a/b\"\n", {"name = \"a/b\" (recipe.toml:2)"});
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
          "\"mla-prerope\" with prerope_site = \"input\" or \"mla-decoupled\"", "this one is \"mha\""},
         {"recipe.toml:3:", "latent_norm = true", "\"mla-prerope\" or \"mla-decoupled\""},
         {"recipe.toml:4:", "prerope_site = \"input\"", "\"mla-prerope\""}});
    EXPECT_TRUE(mha == parse(""));
    EXPECT_TRUE(
        expect_ignored(variant("mla-decoupled") + "k_rank = 8\n",
                       {{"recipe.toml:3:", "k_rank = 8", "\"mla-prerope\" with prerope_site = \"keys\""}}) ==
        parse(variant("mla-decoupled")));
    expect_ignored(variant("mla-prerope") + "kv_rank = 8\n", {{"kv_rank", "prerope_site = \"input\""}});
    expect_ignored(variant("mla-prerope") + "prerope_site = \"input\"\nk_rank = 8\n",
                   {{"k_rank", "prerope_site = \"keys\""}});
    expect_ignored(variant("mla-prerope") + "rope_dim = 8\n", {{"rope_dim", "\"mla-decoupled\""}});
    const Config grouped =
        expect_ignored(variant("mla-decoupled"), {{"--model.kv_heads: ", "kv_heads = 2", "\"mha\""}},
                       {{"model.kv_heads", "2"}});
    EXPECT_EQ(grouped.model.kv_heads, grouped.model.heads);
    expect_ignored("[attention]\nkv_rank = 0\n", {});  // 0 asks for nothing
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
              (std::vector<Scope>{Scope::kHead, Scope::kLayer}));
}

TEST(ConfigError, RefusesWhatTheVariantContradicts) {
    expect_usage(variant("mla-decoupled") + "latent_norm = false\n",
                 {"latent_norm = false (recipe.toml:3)", "\"mla-decoupled\" always normalises its latents"});
}

TEST(Config, LoadsFromAFile) {
    const test::TempFolder folder;
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
}  // namespace pastur
