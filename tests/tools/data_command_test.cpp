// `pastur data` as scripts see it.
#include <fmt/format.h>

#include "tests/support/command_line.h"

namespace pastur {
namespace {

using test::Result;

class DataCommand : public test::CommandLine {
  protected:
    Result expect_success(const std::string& arguments) const {
        const Result result = run(arguments);
        EXPECT_EQ(result.code, 0) << "pastur " << arguments << "\n" << result.err;
        return result;
    }
};

void expect_in(const std::string& part, const std::string& text) {
    EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

// write(2) may take fewer bytes than it is given, down to none, and then says nothing in errno: the reason of the
// failure is not what an earlier call left there.
TEST_F(DataCommand, AWriteThatTakesNothingIsAFullDisk) {
    const std::string environment = fmt::format(
        "ASAN_OPTIONS=verify_asan_link_order=0 LD_PRELOAD='{}' PASTUR_FAULT_UNDER='{}' PASTUR_FAULT_AT=1 "
        "PASTUR_FAULT_KIND=nothing PASTUR_FAULT_LOG='{}'",
        (binary().parent_path() / "libpastur_faults.so").string(), file("out-here"), file("fault"));
    const Result result = run("data synth --docs 2 --out out-here/a.txt", environment);
    EXPECT_EQ(result.code, 74) << result.err;
    EXPECT_NE(result.err.find("No space left"), std::string::npos) << result.err;
    EXPECT_FALSE(std::filesystem::exists(file("out-here/a.txt")));
}

TEST_F(DataCommand, PrepareShowsTheFirstDocument) {
    write("c4.json", "{\"url\": \"u\", \"text\": \"Once upon\\na \\u0007time\"}\n{\"text\": \"two\"}\n");
    expect_in("first document: \"Once upon\\na \\u0007time\"\n",
              expect_success("data prepare --input c4.json --tokenizer bytes --val-fraction 0 --out t").out);
    expect_in("first document: \"{\\\"url\\\"",
              expect_success("data prepare --input c4.json --format text --tokenizer bytes --out u").out);
    expect_failure("data prepare --input c4.json --format csv --tokenizer bytes --out v", 2,
                   {"--format", "jsonl"});
    expect_failure("data prepare --input c4.json --skip-bad -1 --tokenizer bytes --out v", 2, {"--skip-bad"});
}

TEST_F(DataCommand, PrepareReadsPipes) {
    write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
    const std::string line =
        "bash -c '" + binary().string() + " data prepare --input <(cat a.jsonl) --val-fraction 0 --out ";
    const Result bytes = shell(line + "t --tokenizer bytes'");
    EXPECT_EQ(bytes.code, 0) << bytes.err;
    expect_in("2 documents, 8 tokens", bytes.out);
    const Result trained = shell(line + "u --tokenizer train:300'");
    EXPECT_EQ(trained.code, 2) << trained.err;
    expect_in("regular file", trained.err);
}

TEST_F(DataCommand, SynthCompressesByName) {
    for (const char* name : {"a.txt", "a.txt.gz", "a.txt.zst"}) {
        expect_success(fmt::format("data synth --docs 20 --out {}", name));
        expect_success(
            fmt::format("data prepare --input {0} --tokenizer bytes --val-fraction 0 --out {0}.d", name));
    }
    const std::string expected = read_file(file("a.txt.d/train_000000.bin"), 1 << 20);
    EXPECT_EQ(read_file(file("a.txt.gz.d/train_000000.bin"), 1 << 20), expected);
    EXPECT_EQ(read_file(file("a.txt.zst.d/train_000000.bin"), 1 << 20), expected);
    EXPECT_EQ(read_file(file("a.txt.gz"), 1 << 20).substr(0, 2), "\x1f\x8b");
}

// One file is one document, and its end is held out; the folder's name is not a pattern.
TEST_F(DataCommand, OnePlainFileIsEnoughToTrainOn) {
    expect_success("data synth --docs 100 --out stories.txt");
    std::string text = read_file(file("stories.txt"), 1 << 20);
    for (size_t at; (at = text.find("<|doc|>\n")) != text.npos;) text.erase(at, 8);
    write("one.txt", text);
    expect_in("held out",
              expect_success("data prepare --input one.txt --tokenizer bytes --out 'tok[v2]'").err);
    write(
        "r.toml",
        "[model]\nvocab = 257\nd_model = 16\nffn = 24\nlayers = 1\nheads = 2\n[data]\nseq_len = 512\n[train]\n"
        "steps = 1\nglobal_batch = 2\n[diagnostics]\nevery = 0\n");
    expect_success("train r.toml --device cpu --data.dir='tok[v2]' --run run");
    expect_success("train run/config.toml --device cpu --run again");
    expect_success("eval --checkpoint run/checkpoints --data 'tok[v2]' --device cpu");
    expect_success("data info 'tok[v2]'");
}

TEST_F(DataCommand, InfoComparesTheFingerprint) {
    write("a.txt", "some text of one document");
    expect_success("data prepare --input a.txt --tokenizer bytes --val-fraction 0 --out t");
    expect_success("data info t");
    std::string shard = read_file(file("t/train_000000.bin"), 1 << 20);
    shard[1030] ^= 1;
    write("t/train_000000.bin", shard);
    expect_failure("data info t", 65, {"train", "meta.json", "fingerprint"});
}

TEST_F(DataCommand, PrepareTakesDocumentsUpToASize) {
    write("a.txt", std::string(3000, 'a') + "\n<|doc|>\nb\n");
    write("a.jsonl", "{\"text\": \"" + std::string(3000, 'a') + "\"}\n");
    const std::string line = "data prepare --tokenizer bytes --val-fraction 0 --force --out t --input ";
    expect_success(line + "a.txt --max-document 3KiB");
    expect_success(line + "a.jsonl --max-document 3KiB");
    expect_failure(line + "a.txt --max-document 2KiB", 65,
                   {"a.txt:1", "larger than 2048 bytes", "--separator"});
    expect_failure(line + "a.jsonl --max-document 2KiB", 65,
                   {"a.jsonl:1", "--max-document", "one JSON object"});
    expect_failure(line + "a.txt --max-document 0", 2, {"--max-document", "expected 1 to"});
    expect_failure(line + "a.txt --max-document 2x", 2, {"--max-document"});
}

}  // namespace
}  // namespace pastur
