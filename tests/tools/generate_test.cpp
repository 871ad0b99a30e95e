// pastur generate and bench --generate, by the command line.
#include <nlohmann/json.hpp>

#include "tests/support/training_line.h"

namespace pastur {
namespace {

using nlohmann::json;
using test::Result;

class Generate : public test::TrainingLine {
  protected:
    Generate() {
        const Result result =
            run("train r.toml --run run --device cpu --diagnostics.every=0 --diagnostics.early=[] " +
                std::string("--attention.variant=mla-decoupled"));
        EXPECT_EQ(result.code, 0) << result.err;
    }
    json generate(const std::string& arguments) const {
        const Result result = run("generate --checkpoint run --device cpu --json g.json " + arguments);
        EXPECT_EQ(result.code, 0) << result.err;
        return json::parse(read_file(file("g.json"), 1 << 20));
    }
};

TEST_F(Generate, ContinuesPrompts) {
    const Result one =
        run("generate --checkpoint run --device cpu --prompt Once --max-tokens 6 --json one.json");
    ASSERT_EQ(one.code, 0) << one.err;
    const json first = json::parse(read_file(file("one.json"), 1 << 20));
    EXPECT_EQ(one.out, "Once" + first["results"][0]["text"].get<std::string>() + "\n");
    for (const char* part :
         {"prefill: 5 tokens of 1 prompt", "first token after", "decoding: 5 tokens", "cache: 96 bytes"})
        EXPECT_NE(one.err.find(part), std::string::npos) << part << " in " << one.err;
    // kv_rank 8 and rope_dim 4, two layers, fp32.
    EXPECT_EQ(first["cache"]["bytes_per_token_used"], 96);
    EXPECT_EQ(first["results"][0]["prompt_tokens"], (std::vector<int>{256, 'O', 'n', 'c', 'e'}));
    // Of several prompts, of unequal lengths, each is continued as alone; those of a file come last.
    write("prompts.txt", "A\nOnce upon\r\n\n");
    const json several = generate("--prompt Once --prompt '' --prompt-file prompts.txt --max-tokens 6");
    ASSERT_EQ(several["results"].size(), 4u);
    EXPECT_EQ(several["results"][0], first["results"][0]);
    EXPECT_EQ(several["results"][3]["prompt"], "Once upon");
    EXPECT_EQ(several["results"][2], generate("--prompt A --max-tokens 6")["results"][0]);
}

TEST_F(Generate, DrawsByTheSeed) {
    const std::string draw =
        "--prompt a --prompt b --max-tokens 9 --temperature 1.5 --top-k 200 --top-p 0.95 --seed ";
    const json seven = generate(draw + "7"), eight = generate(draw + "8");
    EXPECT_EQ(generate(draw + "7")["results"], seven["results"]);
    EXPECT_NE(eight["results"], seven["results"]);
}

TEST_F(Generate, EndsAtStopTextsAndAtTheSequenceLength) {
    const json free = generate("--prompt One --max-tokens 8 --temperature 2 --seed 3")["results"][0];
    EXPECT_EQ(free["stop"], "max_tokens");
    const std::string text = free["text"];
    std::string stop;  // an ASCII character of the continuation
    for (const char c : text)
        if (stop.empty() && std::isalnum(static_cast<unsigned char>(c))) stop = c;
    if (!stop.empty()) {
        const json stopped = generate(
            "--prompt One --max-tokens 8 --temperature 2 --seed 3 --stop never --stop " + stop)["results"][0];
        EXPECT_EQ(stopped["stop"], "stop");
        EXPECT_EQ(stopped["text"], text.substr(0, text.find(stop)));
    }
    EXPECT_EQ(generate("--prompt One --max-tokens 99")["results"][0]["stop"], "seq_len");
    EXPECT_EQ(generate("--prompt One --max-tokens 40 --seq-len 64")["results"][0]["stop"], "max_tokens");
}

TEST_F(Generate, ReadsHuggingFaceFolders) {
    ASSERT_EQ(run("export --checkpoint run --out hf").code, 0);
    const json want = generate("--prompt Once --max-tokens 8")["results"];
    const Result result = run(
        "generate --checkpoint hf --tokenizer bytes --device cpu --prompt Once --max-tokens 8 --json hf.json");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(json::parse(read_file(file("hf.json"), 1 << 20))["results"], want);
    expect_failure("generate --checkpoint hf --device cpu --prompt a", 2, {"--tokenizer"});
}

// A recipe with fp8, or with weights and moments in bf16, does not stop at its own checkpoint.
TEST_F(Generate, AnyPrecisionOfTrainingGeneratesAndEvaluates) {
    const std::string train =
        "train r.toml --device cpu --diagnostics.every=0 --diagnostics.early=[] --model.d_model=32 "
        "--model.ffn=48 --train.fp8_min_outputs=16 --train.fp8_min_gradient_side=16 ";
    ASSERT_EQ(run(train + "--run fp8 --train.precision=fp8").code, 0);
    ASSERT_EQ(run(train + "--run narrow --train.weights=bf16 --train.moments=bf16").code, 0);
    const auto losses = [&](const std::string& run_folder) {
        const Result eval =
            run("eval --checkpoint " + run_folder + " --data corpus --tokens 64 --device cpu --json");
        EXPECT_EQ(eval.code, 0) << eval.err;
        const Result text =
            run("generate --checkpoint " + run_folder + " --device cpu --prompt Once --max-tokens 4");
        EXPECT_EQ(text.code, 0) << text.err;
        const std::string note = "/step_00000004: trained in fp8, computed here in fp32";
        const bool noted = run_folder == "fp8";
        EXPECT_EQ(eval.err.find(note + "; --precision fp8 computes as in training\n") != std::string::npos,
                  noted)
            << eval.err;
        EXPECT_EQ(text.err.find(note + "\n") != std::string::npos, noted) << text.err;
        return json::parse(eval.out)["loss"].get<double>();
    };
    const double narrow = losses("narrow"), wide = losses("fp8");
    EXPECT_NEAR(narrow, wide, 0.05);
    const Result as_trained =
        run("eval --checkpoint fp8 --data corpus --tokens 64 --device cpu --precision fp8 --json");
    ASSERT_EQ(as_trained.code, 0) << as_trained.err;
    EXPECT_EQ(as_trained.err, "");
    const double quantised = json::parse(as_trained.out)["loss"].get<double>();
    EXPECT_NE(quantised, wide);
    EXPECT_NEAR(quantised, wide, 0.02);
    for (const json& event : metrics("fp8"))
        if (event["event"] == "val" && event["step"] == 4) {
            EXPECT_NEAR(event["loss"].get<double>(), quantised, 1e-6);
        }
}

TEST_F(Generate, BadValuesAreOneLine) {
    const std::string base = "generate --checkpoint run --device cpu ";
    expect_failure("generate --prompt a", 2, {"--checkpoint"});
    expect_failure(base, 2, {"--prompt"});
    expect_failure("generate --checkpoint nowhere --prompt a", 66, {"nowhere"});
    for (const char* value : {"-1", "nan", "inf", "x"})
        expect_failure(base + "--prompt a --temperature=" + value, 2, {"--temperature"});
    for (const char* value : {"0", "-0.5", "1.01", "nan"})
        expect_failure(base + "--prompt a --top-p=" + value, 2, {"--top-p"});
    expect_failure(base + "--prompt a --top-k=-1", 2, {"--top-k"});
    expect_failure(base + "--prompt a --seed=-1", 2, {"--seed"});
    expect_failure(base + "--prompt a --max-tokens 0", 2, {"--max-tokens"});
    expect_failure(base + "--prompt a --stop ''", 2, {"--stop"});
    expect_failure(base + "--prompt a --precision fp8", 2, {"--precision"});
    expect_failure(base + "--prompt a --precision bf16", 2, {"bf16"});
    expect_failure(base + "--prompt 'more than sixteen bytes of text'", 2, {"prompt 1", "16"});
    expect_failure(base + "--prompt '' --no-bos", 2, {"prompt 1"});
    expect_failure(base + "--prompt \"$(printf '\\377')\"", 2, {"UTF-8"});
    expect_failure(base + "--prompt-file nowhere", 66, {"nowhere"});
    write("empty.txt", "\n\n");
    expect_failure(base + "--prompt-file empty.txt", 2, {"empty.txt"});
    expect_failure(base + "--prompt a --tokenizer nowhere", 66, {"nowhere"});
    expect_failure(base + "--prompt a --tokenizer corpus --promt b", 2, {"--prompt"});
    expect_failure(base + "--prompt a --json r.toml/g.json", 74, {"r.toml"});
}

class GenerateBench : public test::CommandLine {};

TEST_F(GenerateBench, ComparesVariants) {
    const Result result = run(
        "bench --generate --device cpu --variants mha,mla-decoupled,mtla --batch 1,3 --context 8 --steps 2 --json b.json "
        "--model.layers=2");
    ASSERT_EQ(result.code, 0) << result.err;
    const json rows = json::parse(read_file(file("b.json"), 1 << 20))["generate"];
    ASSERT_EQ(rows.size(), 6u);
    for (const json& row : rows) {
        EXPECT_NE(result.out.find(row["variant"].get<std::string>()), std::string::npos);
        for (const char* key :
             {"prefill_tokens_per_s", "decode_tokens_per_s", "ms_per_token_p50", "weight_bytes"})
            EXPECT_GT(row[key].get<double>(), 0) << key;
    }
    // nano: 128 wide, 4 heads of 32; kv_rank 64, rope_dim 16; two layers of fp32. 8 + 4 tokens: whole slots of mtla.
    EXPECT_EQ(rows[0]["cache_bytes_per_token_used"], 2 * 128 * 2 * 4);
    EXPECT_EQ(rows[2]["cache_bytes_per_token_used"], (64 + 16) * 2 * 4);
    EXPECT_EQ(rows[4]["cache_bytes_per_token_used"], (64 + 16) * 2 * 4 / 2);
    EXPECT_EQ(rows[5]["batch"], 3);
    EXPECT_EQ(rows[5]["graph_replays"], 0);
    const std::string fp8 = "bench --generate --device cpu --variants mha --batch 1 --context 8 --steps 2 ";
    const Result quantised = run(fp8 + "--model.layers=1 --train.precision=fp8");
    EXPECT_EQ(quantised.code, 0) << quantised.err;
    EXPECT_EQ(quantised.err, "train.precision = \"fp8\" is for training: generation is measured in fp32\n");
}

TEST_F(GenerateBench, BadValuesAreOneLine) {
    for (const char* value : {"0", "1,", "x", "1,-2", "99999999999999999999", "1;2"})
        expect_failure(std::string("bench --generate --device cpu --batch='") + value + "'", 2, {"--batch"});
    expect_failure("bench --device cpu --batch 1", 2, {"--generate"});
    expect_failure("bench --device cpu --context 8", 2, {"--generate"});
    expect_failure("bench --generate --device cpu --context 0", 2, {"--context"});
    expect_failure("bench --generate --ops --device cpu", 2, {"--ops"});
}

}  // namespace
}  // namespace pastur
