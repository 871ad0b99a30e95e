// pastur study: data that it makes once, whatever interrupts it, and processes that share a study.
#include <random>

#include "tests/support/expect_error.h"
#include "tests/support/training_line.h"
#include "tools/pastur/study/design.h"

namespace pastur::test {
namespace {

class StudyDataTest : public TrainingLine {
  protected:
    StudyDataTest() { write("d.toml", design("input = [\"stories.txt\"]\ntokenizer = \"bytes\"\n")); }
    static std::string design(const std::string& data) {
        return "[study]\nrecipe = \"r.toml\"\nvariants = [\"mha\", \"mla-nope\"]\n[data_prepare]\n" + data +
               "[set]\nrun.tensorboard = false\n";
    }
    Result study_run(const std::string& arguments) const {
        return run("study " + arguments, "OMP_NUM_THREADS=1");
    }
    /// study.json without times, memory and how often a run was resumed.
    nlohmann::json results(const std::string& out) const {
        auto study = nlohmann::json::parse(read_file(file(out + "/study.json"), 1 << 24));
        for (const char* list : {"runs", "groups"})
            for (nlohmann::json& item : study.at(list)) item.erase("cost");
        return study;
    }
};

TEST_F(StudyDataTest, IsMadeOnceAndReadByEveryRun) {
    EXPECT_NE(run("study d.toml --out s --list").out.find("data: to be made in s/data\n"), std::string::npos);
    EXPECT_FALSE(fs::exists(file("s")));
    const Result made = study_run("d.toml --out s --stage data");
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_TRUE(fs::exists(file("s/data/meta.json")));
    EXPECT_FALSE(fs::exists(file("s/preparation")));
    EXPECT_FALSE(fs::exists(file("s/runs")));
    EXPECT_FALSE(fs::exists(file("s/study.json")));
    EXPECT_NE(run("study d.toml --out s --list").out.find("data: ready in s/data\n"), std::string::npos);
    const auto written = fs::last_write_time(file("s/data/train_000000.bin"));
    fs::remove(file("stories.txt"));  // the corpus is needed only until the data is made
    fs::remove_all(file("corpus"));
    const Result result = study_run("d.toml --out s --device cpu");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out.find("data: making"), std::string::npos) << result.out;
    EXPECT_EQ(fs::last_write_time(file("s/data/train_000000.bin")), written);
    const nlohmann::json all = results("s");
    EXPECT_EQ(all.at("data").at("settings").at("tokenizer"), "bytes");
    EXPECT_GT(all.at("data").at("train_tokens").get<int64_t>(), 0);
    EXPECT_TRUE(all.at("runs").at(1).at("done").get<bool>());
    EXPECT_FALSE(all.at("runs").at(0).at("settings").contains("data.dir")) << "a path is no result";
    // The folder of a study can move.
    fs::rename(file("s"), file("moved"));
    const Result moved = study_run("d.toml --out moved --device cpu");
    EXPECT_EQ(moved.code, 0) << moved.err;
    EXPECT_EQ(results("moved"), all);
}

TEST_F(StudyDataTest, ComesFromTheCommandLineToo) {
    fs::remove_all(file("corpus"));
    const std::string options = "--variants mha --out s --device cpu --title 'A title' --notes 'Some notes' ";
    const Result result = study_run("r.toml --input stories.txt --tokenizer bytes " + options);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(results("s").at("title"), "A title");
    EXPECT_EQ(results("s").at("notes"), "Some notes");
    expect_failure("study r.toml " + options + "--input r.toml --tokenizer bytes", 2,
                   {"s/data was made with other settings", "input = [\"stories.txt\"], now [\"r.toml\"]"});
    expect_failure("study r.toml --out t --input stories.txt", 2, {"--input needs --tokenizer"});
    expect_failure("study r.toml --out t --tokenizer bytes", 2, {"--tokenizer bytes", "expected --input"});
    expect_failure("study r.toml --out t --stage data", 2, {"--stage data", "makes no data"});
    // Over a design: the tokenizer stays, the text is another.
    write("other.txt", read_file(file("stories.txt"), 1 << 24));
    ASSERT_EQ(run("study d.toml --out u --stage data --input other.txt").code, 0);
    const auto made = nlohmann::json::parse(read_file(file("u/data/prepared.json"), 1 << 20));
    EXPECT_EQ(made.at("settings").at("input"), nlohmann::json({"other.txt"}));
    EXPECT_EQ(made.at("settings").at("tokenizer"), "bytes");
}

TEST_F(StudyDataTest, IsStories) {
    write("d.toml", design("synth_docs = 50\nsynth_seed = 3\ntokenizer = \"bytes\"\nval_fraction = 0.2\n"));
    ASSERT_EQ(run("study d.toml --out s --stage data").code, 0);
    ASSERT_EQ(run("data synth --docs 50 --seed 3 --out three.txt").code, 0);
    ASSERT_EQ(run("data prepare --input three.txt --tokenizer bytes --val-fraction 0.2 --out three").code, 0);
    EXPECT_EQ(read_file(file("s/data/meta.json"), 1 << 20), read_file(file("three/meta.json"), 1 << 20));
    EXPECT_EQ(read_file(file("s/data/train_000000.bin"), 1 << 24),
              read_file(file("three/train_000000.bin"), 1 << 24));
}

TEST_F(StudyDataTest, RefusesSettingsOfOtherData) {
    for (const char* key : {"data.dir", "data.train", "data.val", "data.mixture"}) {
        StudyCell cell;
        cell.name = "mha-s1";
        cell.settings = {{key, "x"}};
        StudyDesign design;
        design.cells = {cell};
        expect_error(ExitCode::kUsage, {"mha-s1", key, "contradicts the data that the study makes"},
                     [&] { use_study_data(design, "data"); });
    }
}

TEST_F(StudyDataTest, RefusesWhatItDidNotMake) {
    ASSERT_EQ(run("study d.toml --out s --stage data").code, 0);
    write("e.toml", design("input = [\"stories.txt\"]\ntokenizer = \"bytes\"\nval_fraction = 0.25\n"));
    expect_failure("study e.toml --out s", 2,
                   {"s/data was made with other settings", "val_fraction = 0.01, now 0.25", "--out"});
    expect_failure("study d.toml --out s --data.dir=corpus", 2,
                   {"mha-s1", "data.dir = corpus contradicts the data that the study makes"});
    fs::copy(file("corpus/meta.json"), file("s/data/meta.json"), fs::copy_options::overwrite_existing);
    expect_failure("study d.toml --out s --list", 65, {"s/data no longer holds the tokens"});
    write("s/data/prepared.json", "{");
    expect_failure("study d.toml --out s --list", 65, {"prepared.json", "expected an object"});
    fs::create_directories(file("t"));
    fs::rename(file("corpus"), file("t/data"));
    expect_failure("study d.toml --out t", 2, {"t/data was not made by this study"});
}

// What a killed preparation leaves is removed, and the data is made from the beginning.
TEST_F(StudyDataTest, StartsAnInterruptedPreparationAgain) {
    fs::create_directories(file("s/preparation/data.pastur-partial-0123456789abcdef"));
    fs::copy(file("corpus"), file("s/preparation/data"));
    write("s/preparation/stories.txt", "the beginning of a corp");
    const Result result = run("study d.toml --out s --stage data");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_FALSE(fs::exists(file("s/preparation")));
    EXPECT_TRUE(fs::exists(file("s/data/prepared.json")));
    write("t.toml", design("synth_docs = 2000000\ntokenizer = \"bytes\"\n"));
    const Result stopped = run("study t.toml --out t --max-time 1");
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_NE(stopped.out.find("stopped (--max-time) before the data was complete"), std::string::npos);
    EXPECT_FALSE(fs::exists(file("t/data")));
}

// A killed study takes its runs along, and what a later one makes of data and runs is the same.
TEST_F(StudyDataTest, KilledAtAnyMomentEndsInTheSameFigures) {
    write("d.toml", design("synth_docs = 3000\ntokenizer = \"bytes\"\n"));
    ASSERT_EQ(study_run("d.toml --device cpu --out whole").code, 0);
    const char* const asked = std::getenv("PASTUR_STUDY_KILLS");
    std::mt19937 random(11);
    for (int kill = 0; kill < (asked ? std::atoi(asked) : 4); ++kill)
        shell(fmt::format("OMP_NUM_THREADS=1 timeout -s KILL 0.{:03} '{}' study d.toml --device cpu --out s",
                          30 + random() % 800, binary().string()));
    const Result last = study_run("d.toml --device cpu --out s");
    EXPECT_EQ(last.code, 0) << last.err << last.out;
    EXPECT_EQ(results("s"), results("whole"));
    EXPECT_FALSE(fs::exists(file("s/preparation")));
}

// One prepares, the others wait; each trains its own runs and passes over the others'.
TEST_F(StudyDataTest, SeveralProcessesShareAStudy) {
    write("d.toml", design("synth_docs = 3000\ntokenizer = \"bytes\"\n"));
    const std::string line =
        "OMP_NUM_THREADS=1 '" + binary().string() + "' study d.toml --device cpu --out s ";
    const Result both =
        shell("{ (" + line + "--only 'mha-*' > a.log; echo $? > a) & (" + line +
              "--only 'mla-*' > b.log; echo $? > b) & (" + line + "> c.log; echo $? > c) & wait; }");
    EXPECT_EQ(both.code, 0) << both.err;
    size_t making = 0;
    for (const char* name : {"a", "b", "c"}) {
        EXPECT_EQ(read_file(file(name), 16), "0\n") << both.err;
        const std::string log = read_file(file(std::string(name) + ".log"), 1 << 20);
        making += log.find("data: making") != std::string::npos;
    }
    EXPECT_EQ(making, 1u);
    for (const nlohmann::json& cell : results("s").at("runs")) EXPECT_TRUE(cell.at("done").get<bool>());
    EXPECT_EQ(metrics("s/runs/mha-s1").back().at("status"), "done");
}

TEST_F(StudyDataTest, RefusesBadSectionsByName) {
    const auto refused = [&](const std::string& data, std::initializer_list<std::string> parts) {
        write("bad.toml", design(data));
        expect_failure("study bad.toml --out s", 2, parts);
    };
    refused("tokenizer = \"bytes\"\n", {"bad.toml:4", "needs either input or synth_docs"});
    refused("input = [\"a\"]\nsynth_docs = 4\ntokenizer = \"bytes\"\n", {"needs either input or synth_docs"});
    refused("input = [\"a\"]\n", {"bad.toml:4", "needs a tokenizer"});
    refused("inputs = [\"a\"]\n", {"bad.toml:5", "unknown key \"inputs\"", "did you mean \"input\""});
    refused("input = \"a\"\n", {"bad.toml:5", "input: expected a list of texts"});
    refused("synth_docs = 0\n", {"bad.toml:5", "expected an integer, 1 or more; got 0"});
    refused("val_fraction = 1\n", {"bad.toml:5", "from 0 to below 1"});
    refused("format = \"parquet\"\n", {"bad.toml:5", "expected auto, text or jsonl; got \"parquet\""});
    write("bad.toml", design("input = [\"none.txt\"]\ntokenizer = \"bytes\"\n"));
    expect_failure("study bad.toml --out t", 66, {"none.txt"});
    write("bad.toml", design("input = [\"stories.txt\"]\ntokenizer = \"train:none\"\n"));
    expect_failure("study bad.toml --out t", 2, {"train:none"});
}

}  // namespace
}  // namespace pastur::test
