// The folder that `data prepare` makes: complete or absent, and nothing else is lost.
#include "data/prepare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "data/temporary_name.h"
#include "tests/data/prepare_fixture.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;
using Prepare = test::PrepareFixture;

TEST_F(Prepare, RefusesToReplaceUnlessForced) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    run(input);
    const auto before = files();
    expect_error(ExitCode::kUsage, {"out", "--force"}, [&] { run(put("b.txt", "three")); });
    EXPECT_EQ(files(), before);
    run_again(put("b.txt", "three\n<|doc|>\nfour"));
    EXPECT_NE(files(), before);
}

TEST_F(Prepare, AnEmptyFolderNeedsNoForce) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    fs::create_directory(options_.out);
    run(input);
    EXPECT_TRUE(files().count("meta.json"));
    fs::create_directory(folder_.path() / "real");
    fs::create_directory_symlink("real", folder_.path() / "link");
    options_.out = folder_.path() / "link";
    run(input);
    EXPECT_TRUE(fs::exists(folder_.path() / "real/meta.json"));
    EXPECT_TRUE(fs::is_symlink(folder_.path() / "link"));
    run_again(input);
    EXPECT_TRUE(fs::is_symlink(folder_.path() / "link"));
}

// --force deletes what an earlier `data prepare` wrote, and nothing else.
TEST_F(Prepare, ForceDeletesOnlyItsOwnFiles) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    const auto refuses = [&](const std::string& name, const std::string& survivor) {
        SCOPED_TRACE(survivor);
        options_.out = folder_.path() / name;
        expect_error(ExitCode::kUsage, {name}, [&] { run_again(input); });
        EXPECT_EQ(read_bytes(folder_.path() / survivor), "precious");
    };
    fs::create_directory(folder_.path() / "thesis");
    put("thesis/thesis.txt", "precious");
    refuses("thesis", "thesis/thesis.txt");
    fs::create_directory(folder_.path() / "shards");  // made by something else
    put("shards/train_000000.bin", "precious");
    refuses("shards", "shards/train_000000.bin");
    options_.out = folder_.path() / "out";
    run(input);
    for (const char* name : {"notes.txt", "train_1.bin", "other_000000.bin", "train_000000.bin.bak"}) {
        put(std::string("out/") + name, "precious");
        refuses("out", std::string("out/") + name);
        fs::remove(options_.out / name);
    }
    fs::create_directory(options_.out / "sub");
    put("out/sub/notes.txt", "precious");
    refuses("out", "out/sub/notes.txt");
    fs::remove_all(options_.out / "sub");
    // Its own input, in the folder or where the new one is written.
    const std::string inside = put("out/input.txt", "precious");
    expect_error(ExitCode::kUsage, {"out", "input.txt"}, [&] { run_again(inside); });
    EXPECT_EQ(read_bytes(inside), "precious");
    fs::remove(inside);
    options_.out = input;
    expect_error(ExitCode::kUsage, {"a.txt", "not a folder"}, [&] { run_again(input); });
    EXPECT_TRUE(fs::exists(input));
}

TEST_F(Prepare, FailureLeavesNothing) {
    const auto leaves_nothing = [&](ExitCode code, std::initializer_list<std::string> parts,
                                    const std::string& input) {
        expect_error(code, parts, [&] { run(input); });
        EXPECT_FALSE(fs::exists(options_.out)) << *parts.begin();
        EXPECT_TRUE(temporaries_of(options_.out).empty()) << *parts.begin();
    };
    leaves_nothing(ExitCode::kMissingInput, {"nowhere"}, "nowhere.txt");
    leaves_nothing(ExitCode::kCorruptData, {"no document"}, put("empty.txt", ""));
    leaves_nothing(ExitCode::kCorruptData, {"no document"}, put("blank.txt", " \n\t\n<|doc|>\n\n"));
    std::string json;
    for (int i = 0; i < 100'000; ++i) json += "{\"text\": \"line\"}\n";
    leaves_nothing(ExitCode::kCorruptData, {"bad.jsonl:100001"}, put("bad.jsonl", json + "{\"text\": 1}\n"));
    const std::string good = put("good.txt", "one\n<|doc|>\ntwo");
    options_.tokenizer = "nowhere.model";
    leaves_nothing(ExitCode::kMissingInput, {"nowhere.model", "train:VOCAB"}, good);
    for (const char* bad : {"train:", "train:x", "train:12x", "train:-5", "train:0"}) {
        options_.tokenizer = bad;
        leaves_nothing(ExitCode::kUsage, {bad, "VOCAB"}, good);
    }
    options_.tokenizer = "train:9000";
    leaves_nothing(ExitCode::kUsage, {"9000"}, good);
    options_.tokenizer = "bytes";
    for (const double fraction : {-0.1, 1.0, std::nan("")}) {
        options_.val_fraction = fraction;
        leaves_nothing(ExitCode::kUsage, {"--val-fraction"}, good);
    }
    options_.val_fraction = 0;
    options_.shard_tokens = 0;
    leaves_nothing(ExitCode::kUsage, {"--shard-tokens"}, good);
}

TEST_F(Prepare, ReplacesWhatAnInterruptedRunLeft) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    const fs::path left = temporary_name(options_.out);
    fs::create_directory(left);
    write_bytes(left / "train_000007.bin", "half a shard");
    run(input);
    EXPECT_FALSE(files().count("train_000007.bin"));
    EXPECT_FALSE(fs::exists(left));
}

// Names that only resemble temporary ones belong to the user, and so does what was put into a temporary folder.
TEST_F(Prepare, LeavesWhatItDidNotMake) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    const fs::path left = temporary_name(options_.out);
    for (const std::string& folder : {options_.out.string() + ".partial", options_.out.string() + ".old",
                                      options_.out.string() + ".pastur-partial-x", left.string()})
        fs::create_directory(folder);
    const std::vector<std::string> kept = {put("out.partial/train_000000.bin", "precious"),
                                           put("out.partial/meta.json", "precious"),
                                           put("out.old/train_000000.bin", "precious"),
                                           put("out.pastur-partial-x/meta.json", "precious"),
                                           put(left.filename().string() + "/notes.txt", "precious"),
                                           put(left.filename().string() + "/train_000000.bin", "precious")};
    run(input);
    run_again(input);
    for (const std::string& file : kept) EXPECT_EQ(read_bytes(file), "precious") << file;
}

// A folder is replaced if its meta.json says that `data prepare` made it, and only with the shards that it lists.
TEST_F(Prepare, ForceNeedsItsOwnMarker) {
    const std::string input = put("a.txt", "one\n<|doc|>\ntwo\n");
    fs::create_directory(options_.out);
    put("out/meta.json", "{\"vocab_size\": 65}");
    put("out/train_000000.bin", "precious");
    expect_error(ExitCode::kUsage, {"out", "meta.json"}, [&] { run_again(input); });
    EXPECT_EQ(read_bytes(options_.out / "train_000000.bin"), "precious");
    fs::remove_all(options_.out);
    run(input);
    put("out/train_000001.bin", "precious");
    expect_error(ExitCode::kUsage, {"out", "train_000001.bin"}, [&] { run_again(input); });
    EXPECT_EQ(read_bytes(options_.out / "train_000001.bin"), "precious");
}

TEST_F(Prepare, OutputWithATrailingSlash) {
    options_.out = folder_.path().string() + "/deep/er/out/";
    run(put("a.txt", "one\n<|doc|>\ntwo\n"));
    EXPECT_EQ(read_meta(folder_.path() / "deep/er/out").train.documents, 2);
}

}  // namespace
}  // namespace pastur
