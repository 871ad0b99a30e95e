// Recipes that are refused, and the message for every mistake.
#include "tests/engine/config/parse_recipe.h"

namespace pastur::test {
namespace {

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
    expect_usage("[train]\nlearning_rate = 1\n",
                 {"unknown key \"learning_rate\" in [train]", "did you mean \"lr\"?"});
    expect_usage("[train]\nbatch_size = 1\n", {"did you mean \"global_batch\"?"});
    expect_usage("[train]\nmax_steps = 1\n", {"did you mean \"steps\"?"});
    expect_usage("[model]\nhidden_size = 1\n", {"did you mean \"d_model\"?"});
    expect_usage("[train]\nxyzzy = 1\n",
                 {"unknown key \"xyzzy\" in [train]; its keys are steps, global_batch, "});
    expect_usage("[trian]\nlr = 1\n", {"recipe.toml:1: unknown section [trian]", "[train]?"});
    expect_usage("[model]\nlr = 1\n", {"recipe.toml:2:", "\"lr\" belongs to [train]"});
    expect_usage("lr = 1\n", {"recipe.toml:1:", "[train] lr?"});
    expect_usage("learning_rate = 1\n", {"recipe.toml:1:", "[train] lr?"});
    expect_usage("hidden_size = 1\n", {"recipe.toml:1:", "[model] d_model?"});
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
    expect_usage(variant("mha-shared-rope") + "rope_dim = 9\n", {"rope_dim = 9 (recipe.toml:3)", "even"});
    expect_usage(variant("mla-rope"), {"head_dim = 7 (--model.head_dim)", "even"}, {{"model.head_dim", "7"}});
    for (const char* unrotated : {"mha-nope", "mla-nope"})
        EXPECT_EQ(parse(variant(unrotated), {{"model.head_dim", "7"}}).model.head_dim, 7);
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
    expect_usage(variant("mla-rope") + "kv_rank = 129\n", {"kv_rank = 129 (recipe.toml:3)", "d_model = 128"});
}

TEST(ConfigError, ChecksStridesAgainstTheLength) {
    expect_usage(variant("mtla") + "stride = 257\n",
                 {"stride = 257 (recipe.toml:3)", "expected 1 to 256", "seq_len = 256 (default)"});
    EXPECT_EQ(parse(variant("mtla") + "stride = 256\n").attention.stride, 256);
    EXPECT_EQ(parse(variant("mtla")).attention.stride, 2);
    EXPECT_EQ(parse(variant("mtla"), {{"data.seq_len", "1"}}).attention.stride, 1);
    expect_usage(variant("mtla") + "kv_rank = 129\n", {"kv_rank = 129 (recipe.toml:3)", "d_model = 128"});
    expect_usage(variant("mtla") + "rope_dim = 9\n", {"rope_dim = 9", "even"});
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

TEST(ConfigError, ALatentGainNeedsNormalisedLatents) {
    for (const char* name : {"mla-decoupled", "mla-rope", "mla-nope"})
        expect_usage(variant(name) + "latent_norm = false\nlatent_gain = \"sqrt\"\n",
                     {"latent_gain = \"sqrt\" (recipe.toml:4)", "latent_norm = true"});
}

}  // namespace
}  // namespace pastur::test
