// pastur eval on text and on multiple choice, against losses computed from the logits that it writes.
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "engine/io/safetensors.h"
#include "tests/support/data_files.h"
#include "tests/support/source_folder.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Result;

constexpr int32_t kEos = 256;

std::vector<int32_t> ids_of(std::string_view text) {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
    return ids;
}
std::vector<int32_t> joined(std::initializer_list<std::vector<int32_t>> parts) {
    std::vector<int32_t> all;
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

/// A model of bytes, trained for some steps, in "run".
class Eval : public test::TrainingLine {
  protected:
    Eval() {
        const Result trained = run(
            "train r.toml --run run --device cpu --diagnostics.every=0 --diagnostics.early=[] --train.steps=8 "
            "--train.lr=0.02 --train.warmup_steps=0");
        EXPECT_EQ(trained.code, 0) << trained.err;
    }
    json eval(const std::string& arguments) const {
        const Result result = run("eval --checkpoint run --device cpu --json " + arguments);
        EXPECT_EQ(result.code, 0) << arguments << ": " << result.err;
        return json::parse(result.out, nullptr, false);
    }
    /// -log p of every token but the first, given all before it, from the logits of one sequence.
    std::vector<double> losses(const std::vector<int32_t>& tokens) const {
        const size_t time = tokens.size() - 1;
        test::write_bytes(file("one.bin"),
                          test::shard_bytes(std::vector<uint16_t>(tokens.begin(), tokens.end())));
        eval(fmt::format("--data one.bin --seq-len {} --logits l.safetensors", time));
        const SafetensorsFile stored(file("l.safetensors"));
        const ConstTensor all = stored.tensor("logits.0", DType::kF32, {static_cast<int64_t>(time), 512});
        const auto* logits = reinterpret_cast<const float*>(all.bytes());
        std::vector<double> losses;
        for (size_t t = 0; t < time; ++t) {
            double sum = 0;
            for (size_t v = 0; v < 512; ++v) sum += std::exp(double{logits[t * 512 + v]});
            losses.push_back(std::log(sum) - logits[t * 512 + static_cast<size_t>(tokens[t + 1])]);
        }
        return losses;
    }
    double sum_of_last(const std::vector<int32_t>& tokens, size_t count) const {
        const std::vector<double> all = losses(tokens);
        return std::accumulate(all.end() - static_cast<std::ptrdiff_t>(count), all.end(), 0.0);
    }
};

const std::string kFirst = "The fox went home.", kSecond = "It was caf\xc3\xa9 time";

TEST_F(Eval, LossOfATextIsThatOfItsTokens) {
    write("t.txt", kFirst + "\n<|doc|>\n" + kSecond + "\n");
    const std::vector<int32_t> tokens = joined({{kEos}, ids_of(kFirst), {kEos}, ids_of(kSecond), {kEos}});
    const std::vector<double> each = losses(tokens);
    double total = 0, of_text = 0;
    for (size_t t = 0; t < each.size(); ++t) {
        total += each[t];
        if (tokens[t + 1] != kEos) of_text += each[t];
    }
    const json found = eval("--data t.txt --seq-len 64");
    const auto count = static_cast<double>(each.size()), bytes = static_cast<double>(each.size() - 2);
    EXPECT_NEAR(found["loss"].get<double>(), total / count, 1e-6);
    EXPECT_NEAR(found["ppl"].get<double>(), std::exp(total / count), 1e-4);
    EXPECT_NEAR(found["bits_per_byte"].get<double>(), of_text / std::numbers::ln2 / bytes, 1e-6);
    EXPECT_NEAR(found["bits_per_word"].get<double>(), of_text / std::numbers::ln2 / 8, 1e-5);
    EXPECT_EQ(found["tokens"], each.size());
    EXPECT_EQ(found["bytes"], each.size() - 2);
    EXPECT_EQ(found["words"], 8);

    // The same text in other files.
    const json lines[] = {{{"text", kFirst}}, {{"text", kSecond}}};
    const std::string jsonl = lines[0].dump() + "\n" + lines[1].dump() + "\n";
    write("t.jsonl", jsonl);
    test::write_bytes(file("t.jsonl.gz"), test::gzip(jsonl));
    test::write_bytes(file("t.jsonl.zst"), test::zstd(jsonl));
    fs::create_directory(file("texts"));
    write("texts/1.txt", kFirst);
    write("texts/2.txt", kSecond);
    for (const char* data : {"t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "texts", "'texts/*.txt'"})
        EXPECT_EQ(eval(std::string("--seq-len 64 --data ") + data)["loss"], found["loss"]) << data;

    // The first 22 tokens end within the second document.
    const json front = eval("--data t.txt --seq-len 64 --max-tokens 22");
    EXPECT_NEAR(front["loss"].get<double>(), std::accumulate(each.begin(), each.begin() + 22, 0.0) / 22,
                1e-6);
    EXPECT_EQ(front["bytes"], 21);
    EXPECT_EQ(front["words"], 5);
}

TEST_F(Eval, OverlappingWindowsScoreEachTokenOnce) {
    write("t.txt", kFirst + " " + kSecond);
    const std::vector<int32_t> tokens = joined({{kEos}, ids_of(kFirst + " " + kSecond), {kEos}});
    for (const auto& [seq_len, stride] : {std::pair<size_t, size_t>(12, 5), {12, 12}, {9, 1}, {16, 15}}) {
        double total = 0;
        size_t scored = 0;
        for (size_t begin = 0; scored + 1 < tokens.size(); begin += stride) {
            const size_t end = std::min(begin + seq_len + 1, tokens.size());
            const std::vector<int32_t> window(tokens.data() + begin, tokens.data() + end);
            total += sum_of_last(window, end - 1 - scored);
            scored = end - 1;
        }
        const json found = eval(fmt::format("--data t.txt --seq-len {} --stride {}", seq_len, stride));
        EXPECT_EQ(found["tokens"], tokens.size() - 1) << stride;
        EXPECT_EQ(found["stride"], stride);
        EXPECT_NEAR(found["loss"].get<double>(), total / static_cast<double>(scored), 1e-6) << stride;
    }
    EXPECT_EQ(eval("--data t.txt --seq-len 12")["loss"],
              eval("--data t.txt --seq-len 12 --stride 12")["loss"]);
}

TEST_F(Eval, ShardsOfAFolderKnowTheirText) {
    const json folder = eval("--data corpus"), shard = eval("--data corpus/val_000000.bin"),
               glob = eval("--data 'corpus/val_*.bin'");
    EXPECT_EQ(folder["loss"], shard["loss"]);
    EXPECT_EQ(folder["bits_per_byte"], glob["bits_per_byte"]);
    const double bytes = folder["bytes"], tokens = folder["tokens"];
    EXPECT_LT(bytes, tokens);
    EXPECT_GT(bytes, 0.98 * tokens);  // all but EOS
    fs::copy_file(file("corpus/val_000000.bin"), file("alone.bin"));
    const json alone = eval("--data alone.bin");
    EXPECT_EQ(alone["loss"], folder["loss"]);
    EXPECT_FALSE(alone.contains("bits_per_byte"));
    EXPECT_EQ(eval("--data alone.bin --tokenizer bytes")["bits_per_byte"], folder["bits_per_byte"]);
    fs::create_directory(file("lost"));
    for (const char* name : {"val_000000.bin", "train_000000.bin"})
        fs::copy_file(file(std::string("corpus/") + name), file(std::string("lost/") + name));
    json meta = json::parse(read_file(file("corpus/meta.json"), 1 << 20));
    meta["tokenizer"] = "sentencepiece";  // its file is missing
    write("lost/meta.json", meta.dump());
    EXPECT_EQ(eval("--data lost")["loss"], folder["loss"]);
    EXPECT_FALSE(eval("--data lost").contains("bytes"));
    EXPECT_EQ(eval("--data corpus --tokens 100")["tokens"], 96);  // whole sequences of 16
}

TEST_F(Eval, LogLikelihoodsOfChoicesAreThoseOfTheirTokens) {
    const auto expect = [&](const std::string& name, size_t document, const std::string& context,
                            const std::vector<std::string>& continuations, size_t seq_len) {
        const json all = eval(fmt::format("--choices '{}' --seq-len {}",
                                          test::source_file("tests/hf/choices/" + name + ".jsonl"), seq_len));
        const json& found = all["per_document"].at(document);
        for (size_t c = 0; c < continuations.size(); ++c) {
            std::vector<int32_t> tokens = joined({ids_of(context), ids_of(continuations[c])});
            if (context.empty()) tokens.insert(tokens.begin(), kEos);
            if (tokens.size() > seq_len + 1)
                tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(seq_len + 1));
            EXPECT_EQ(found["tokens"][c], continuations[c].size());
            EXPECT_NEAR(found["loglikelihoods"][c].get<double>(),
                        -sum_of_last(tokens, continuations[c].size()), 1e-4)
                << name << " " << document << " " << c;
        }
        EXPECT_EQ(found["loglikelihoods"].size(), continuations.size());
        return all;
    };
    expect("hellaswag", 2,
           "Crossing a river: An old man and his grandson stand at a river. They look at the bridge, which",
           {" is made of wood and looks safe.", " sings a song to the fish.", " [unfinished mark is here",
            " was once a caf\xc3\xa9 in Z\xc3\xbcrich."},
           150);
    EXPECT_GT(expect("arc", 1, "Question: What does a plant need to grow? \nAnswer:",
                     {" light and water", " darkness", " a name"}, 30)["truncated"],
              0);
    expect("piqa", 0, "Question: To keep soup hot on a walk,\nAnswer:",
           {" pour it into a flask and close the lid.", " pour it into a paper bag."}, 128);
    // White space at the end of a context moves to the choices; bytes are the same either way, their number is not.
    const json plain = expect("plain", 2, "", {"The cat sat.", "Cat the sat."}, 128);
    EXPECT_EQ(plain["per_document"][1]["tokens"], json({6, 6}));
    EXPECT_EQ(plain["truncated"], 0);
}

TEST_F(Eval, AccuraciesCountTheBestChoices) {
    for (const char* name : {"hellaswag", "arc", "piqa", "plain"}) {
        const std::string path = test::source_file(std::string("tests/hf/choices/") + name + ".jsonl");
        const json all = eval("--choices '" + path + "' --seq-len 2048");
        double right = 0, right_norm = 0, right_bytes = 0;
        for (const json& document : all["per_document"]) {
            const std::vector<double> values = document["loglikelihoods"];
            const auto best = std::max_element(values.begin(), values.end()) - values.begin();
            EXPECT_EQ(document["best"], best);
            right += document["answer"] == document["best"];
            right_norm += document["answer"] == document["best_norm"];
            right_bytes += document["answer"] == document["best_bytes"];
        }
        const auto count = static_cast<double>(all["per_document"].size());
        EXPECT_DOUBLE_EQ(all["acc"], right / count);
        EXPECT_DOUBLE_EQ(all["acc_norm"], right_norm / count);
        EXPECT_DOUBLE_EQ(all["acc_bytes"], right_bytes / count);
        const double p = right / count;
        EXPECT_NEAR(all["acc_stderr"].get<double>(), std::sqrt(p * (1 - p) / (count - 1)), 1e-12);
    }
    const std::string path = test::source_file("tests/hf/choices/hellaswag.jsonl");
    const Result first = run("eval --checkpoint run --device cpu --seq-len 512 --choices '" + path +
                             "' --limit 3 --json f.json");
    EXPECT_NE(first.out.find("over 3 questions (HellaSwag)"), std::string::npos) << first.out << first.err;
    const json limited = json::parse(read_file(file("f.json"), 1 << 20));
    const Result again = run("eval --checkpoint run --device cpu --seq-len 512 --choices '" + path +
                             "' --limit 3 --json g.json");
    EXPECT_EQ(again.code, 0);
    EXPECT_EQ(read_file(file("g.json"), 1 << 20), read_file(file("f.json"), 1 << 20));
    EXPECT_EQ(limited["documents"], 3);
    EXPECT_EQ(limited["per_document"].size(), 3u);
}

TEST_F(Eval, SaysWhatItExpects) {
    const std::string eval = "eval --checkpoint run --device cpu ";
    write("t.txt", "text");
    write("blank.txt", "\n\n");
    write("bad.jsonl", "{\"text\":\"a\"}\n{\"content\":\"b\"}\n");
    write("bad_choices.jsonl", "{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"answer\":0}\n{\n");
    expect_failure(eval, 2, {"expected --data or --choices"});
    expect_failure(eval + "--data t.txt --choices t.txt", 2, {"expected --data or --choices"});
    expect_failure(eval + "--choices bad_choices.jsonl --stride 4", 2, {"--stride is for --data"});
    expect_failure(eval + "--data t.txt --limit 4", 2, {"--limit is for --choices"});
    expect_failure(eval + "--data t.txt --stride 17", 2, {"--stride 17: expected at most the 16 tokens"});
    expect_failure(eval + "--data t.txt --logits l", 2, {"--logits: expected shards", "t.txt"});
    expect_failure(eval + "--data none", 66, {"none: expected shards, text"});
    expect_failure(eval + "--data none.bin", 66, {"none.bin"});
    expect_failure(eval + "--data blank.txt", 65, {"blank.txt: expected a document with text"});
    expect_failure(eval + "--data bad.jsonl", 65, {"bad.jsonl:2: expected a field \"text\""});
    expect_failure(eval + "--data t.txt --tokenizer none", 66, {"no tokenizer none"});
    expect_failure(eval + "--choices bad_choices.jsonl", 65, {"bad_choices.jsonl:2: expected a JSON object"});
    expect_failure(eval + "--choices none", 66, {"none"});
    expect_failure(eval + "--choices '" + test::source_file("tests/hf/choices/piqa.jsonl") + "' --seq-len 20",
                   2, {"piqa.jsonl:1: choice 0 has 40 tokens: expected at most 20"});
    fs::rename(file("corpus"), file("away"));
    expect_failure(eval + "--data t.txt", 2, {"expected a tokenizer in it", "--tokenizer"});
    const Result given = run(eval + "--data t.txt --tokenizer bytes");
    EXPECT_EQ(given.code, 0) << given.err;
    EXPECT_NE(given.out.find("bits per byte"), std::string::npos);
}

}  // namespace
}  // namespace pastur
