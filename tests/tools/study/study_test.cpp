// pastur study: designs, runs that fail, stop or are killed, and figures over seeds.
#include "tools/pastur/study/study_json.h"

#include <random>

#include "tests/support/expect_error.h"
#include "tests/support/source_folder.h"
#include "tests/support/training_line.h"
#include "tools/pastur/study/design.h"

namespace pastur::test {
namespace {

class StudyTest : public TrainingLine {
  protected:
    StudyTest() {
        write("d.toml",
              "[study]\nrecipe = \"r.toml\"\nvariants = [\"mha\", \"mla-decoupled\"]\nseeds = [1, 2]\n"
              "[set]\nrun.tensorboard = false\n[arms.base]\n[arms.small]\nvariants = [\"mla-decoupled\"]\n"
              "attention.kv_rank = 4\n");
    }
    Result study_run(const std::string& arguments) const {
        return run("study " + arguments, "OMP_NUM_THREADS=1");
    }
    nlohmann::json study(const std::string& out) const {
        return nlohmann::json::parse(read_file(file(out + "/study.json"), 1 << 24));
    }
    nlohmann::json record(const std::string& run) const {
        return nlohmann::json::parse(read_file(file(run + "/statistics.json"), 1 << 24));
    }
    /// The data of a page.
    nlohmann::json payload(const std::string& page) const {
        const std::string text = read_file(file(page), 1 << 26);
        const std::string begin = "<script type=\"application/json\" id=\"data\">";
        const size_t at = text.find(begin) + begin.size();
        return nlohmann::json::parse(text.substr(at, text.find("</script>", at) - at));
    }
    /// All but times, memory and how often a run was resumed.
    static nlohmann::json results(nlohmann::json study) {
        for (const char* list : {"runs", "groups"})
            for (nlohmann::json& item : study.at(list)) item.erase("cost");
        return study;
    }
};

TEST_F(StudyTest, TrainsEveryRunOfADesign) {
    const Result listed = run("study d.toml --out s --list");
    EXPECT_EQ(listed.code, 0) << listed.err;
    EXPECT_NE(listed.out.find("0 of 6 runs done"), std::string::npos) << listed.out;
    EXPECT_FALSE(fs::exists(file("s")));
    const Result result = study_run("d.toml --out s --device cpu --jobs 2");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("6 of 6 runs done"), std::string::npos) << result.out;
    EXPECT_TRUE(fs::exists(file("s/report.html")));
    for (const char* verdict :
         {"i. Sharp early spikes", "ii. The spikes coincide", "iii. Only MLA-Decoupled"})
        EXPECT_NE(result.out.find(verdict), std::string::npos) << result.out;
    const nlohmann::json all = study("s");
    const nlohmann::json analysis = all.at("analysis");
    EXPECT_EQ(analysis.at("groups").size(), 3u);
    EXPECT_EQ(analysis.at("groups").at(2).at("arm"), "small");
    EXPECT_EQ(analysis.at("groups").at(0).at("runs"),
              (std::vector<std::string>{"mha-base-s1", "mha-base-s2"}));
    EXPECT_EQ(analysis.at("groups")
                  .at(0)
                  .at("matrices")
                  .at("qk")
                  .at("head")
                  .at("kept")
                  .at("step0")
                  .at("final")
                  .at("n"),
              2);
    EXPECT_NEAR(analysis.at("groups").at(0).at("val_loss").at("mean").get<double>(),
                all.at("groups").at(0).at("val_loss").at("mean").get<double>(), 1e-5);
    std::vector<std::string> names;
    std::vector<double> losses;
    for (const nlohmann::json& cell : all.at("runs")) {
        names.push_back(cell.at("run"));
        if (names.back().starts_with("mha")) losses.push_back(cell.at("val_loss"));
    }
    EXPECT_EQ(names,
              (std::vector<std::string>{"mha-base-s1", "mla-decoupled-base-s1", "mla-decoupled-small-s1",
                                        "mha-base-s2", "mla-decoupled-base-s2", "mla-decoupled-small-s2"}));
    ASSERT_EQ(losses.size(), 2u);
    EXPECT_NE(losses[0], losses[1]) << "seeds differ";
    const nlohmann::json group = all.at("groups").at(0);
    EXPECT_EQ(group.at("seeds"), 2);
    EXPECT_DOUBLE_EQ(group.at("val_loss").at("mean"), (losses[0] + losses[1]) / 2);
    EXPECT_EQ(all.at("groups").at(2).at("arm"), "small");
    EXPECT_LT(all.at("groups").at(2).at("cache_bytes_per_token").at("mean").get<double>(),
              all.at("groups").at(1).at("cache_bytes_per_token").at("mean").get<double>());
    // A run equals the one that `train` makes of the same settings.
    ASSERT_EQ(run("train r.toml --device cpu --train.seed=2 --run alone", "OMP_NUM_THREADS=1").code, 0);
    EXPECT_EQ(outcome("alone").at("\"val\" 4"), outcome("s/runs/mha-base-s2").at("\"val\" 4"));

    const auto written = fs::last_write_time(file("s/runs/mha-base-s1/metrics.jsonl"));
    EXPECT_EQ(study_run("d.toml --out s --device cpu").code, 0);
    EXPECT_EQ(fs::last_write_time(file("s/runs/mha-base-s1/metrics.jsonl")), written)
        << "nothing is trained twice";
    // More steps continue the runs; other settings are other runs.
    EXPECT_EQ(study_run("d.toml --out s --device cpu --only 'mha-base-s1' --train.steps=6").code, 0);
    EXPECT_EQ(study("s").at("runs").at(0).at("step"), 6);
    EXPECT_FALSE(study("s").at("runs").at(1).at("done").get<bool>()) << "it has only 4 of 6 steps";
    expect_failure("study d.toml --out s --train.lr=0.5", 2, {"mha-base-s1", "other settings"});
}

TEST_F(StudyTest, HasSeedsOfAnArmAndOfItsVariants) {
    write(
        "seeds.toml",
        "[study]\nrecipe = \"r.toml\"\nvariants = [\"mha\", \"mla-nope\"]\nseeds = [1, 2]\n[arms.base]\n"
        "seeds = {mla-nope = [7]}\n[arms.one]\nvariants = [\"mla-nope\"]\nseeds = [3, 1]\ntrain.lr = 0.1\n");
    const Result listed = run("study seeds.toml --out s --list");
    ASSERT_EQ(listed.code, 0) << listed.err;
    std::istringstream lines(listed.out);
    std::vector<std::string> names;
    for (std::string line; std::getline(lines, line);) names.push_back(line.substr(0, line.find(' ')));
    EXPECT_EQ(names, (std::vector<std::string>{"run", "mha-base-s1", "mla-nope-base-s7", "mla-nope-one-s3",
                                               "mha-base-s2", "mla-nope-one-s1", "0"}));
    const auto refused = [&](const std::string& arm, std::initializer_list<std::string> parts) {
        write("bad.toml", "[study]\nrecipe = \"r.toml\"\nvariants = [\"mha\"]\n[arms.a]\n" + arm);
        expect_failure("study bad.toml --out s", 2, parts);
    };
    refused("seeds = 1\n", {"bad.toml:5", "expected a list of integers"});
    refused("seeds = [1, -1]\n", {"bad.toml:5", "seeds of 0 or more"});
    refused("seeds = {mhaa = [1]}\n", {"arms.a.seeds", "did you mean \"mha\""});
    refused("seeds = {mha = []}\n", {"bad.toml:5", "arms.a.seeds.mha", "expected a list of integers"});
    refused("seeds = [2, 2]\n", {"two runs are named mha-a-s2"});
}

// Every design in tools/study resolves, and names only runs that its recipes allow.
TEST_F(StudyTest, DesignsOfTheRepositoryResolve) {
    for (const auto& [design, runs] : std::map<std::string, int>{{"nano", 6}, {"130m", 27}, {"rank", 28}}) {
        const Result listed =
            run("study '" + source_file("tools/study/" + design + ".toml") + "' --out s --list");
        EXPECT_EQ(listed.code, 0) << listed.err;
        EXPECT_NE(listed.out.find(fmt::format("0 of {} runs done", runs)), std::string::npos) << listed.out;
    }
}

// Parts that were trained in different places become one study by their run folders, which need no checkpoints.
TEST_F(StudyTest, JoinsRunsThatWereTrainedElsewhere) {
    const std::string options = " --variants mha,mla-nope --run.tensorboard=false --device cpu ";
    ASSERT_EQ(study_run("r.toml --out whole" + options).code, 0);
    ASSERT_EQ(study_run("r.toml --out a --only 'mha-*' --stage runs" + options).code, 0);
    ASSERT_EQ(study_run("r.toml --out b --only 'mla-*' --stage runs" + options).code, 0);
    EXPECT_FALSE(fs::exists(file("a/study.json")));
    fs::remove_all(file("b/runs/mla-nope-s1/checkpoints"));
    for (const auto& entry : fs::recursive_directory_iterator(file("b/runs")))
        if (entry.path().extension() == ".npz") fs::remove(entry.path());
    fs::rename(file("b/runs/mla-nope-s1"), file("a/runs/mla-nope-s1"));
    const Result joined = study_run("r.toml --out a --stage results" + options);
    ASSERT_EQ(joined.code, 0) << joined.err;
    EXPECT_NE(joined.out.find("2 of 2 runs"), std::string::npos) << joined.out;
    EXPECT_EQ(results(study("a")), results(study("whole")));
    EXPECT_TRUE(fs::exists(file("a/report.html")));
    // A run of other settings is not taken.
    expect_failure(
        "study r.toml --out a --stage results --train.lr=0.5" + options, 2,
        {"mha-s1 was made with other settings", "train.lr is 0.001, the design's is 0.5", "a/runs/mha-s1"});
}

// statistics.json suffices for study.json and the page where logs and spectra stayed elsewhere, and data has another path.
TEST_F(StudyTest, KeepsRunsAsRecords) {
    const std::string options = " --variants mha,mla-decoupled --run.tensorboard=false --device cpu ";
    ASSERT_EQ(study_run("r.toml --out s" + options).code, 0);
    const nlohmann::json before = study("s");
    for (const std::string name : {"mha-s1", "mla-decoupled-s1"}) {
        fs::create_directories(file("kept/runs/" + name));
        for (const std::string part : {"config.toml", "statistics.json"})
            fs::copy_file(file("s/runs/" + name + "/" + part), file("kept/runs/" + name + "/" + part));
    }
    const std::string elsewhere = options + "--data.train=/nowhere/train.bin --data.val=/nowhere/val.bin ";
    const Result result = study_run("r.toml --out kept --stage results" + elsewhere);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("2 of 2 runs"), std::string::npos) << result.out;
    EXPECT_EQ(study("kept").at("analysis"), before.at("analysis"));
    EXPECT_EQ(study("kept").at("groups"), before.at("groups")) << "times as well";
    // The page draws the records: maps of both variants, on the measured steps, and no spectra.
    for (const nlohmann::json& run : payload("kept/report.html").at("runs")) {
        EXPECT_EQ(run.at("train").at("step"), std::vector<int>({1, 2, 3, 4}));
        EXPECT_FALSE(run.at("metrics").empty());
        EXPECT_TRUE(run.at("spectra").empty());
    }
    ASSERT_EQ(run("report kept -o folder.html").code, 0);
    EXPECT_EQ(payload("folder.html").at("runs"), payload("kept/report.html").at("runs"));
    EXPECT_EQ(payload("folder.html").at("analysis"), before.at("analysis"));
    // A record of a former version counts, but has nothing to draw; whole runs and records share a page.
    nlohmann::json former = record("kept/runs/mla-decoupled-s1");
    former.erase("page");
    write("kept/runs/mla-decoupled-s1/statistics.json", former.dump());
    fs::remove(file("kept/report.html"));
    ASSERT_EQ(study_run("r.toml --out kept --stage results" + elsewhere).code, 0);
    EXPECT_EQ(study("kept").at("analysis"), before.at("analysis"));
    EXPECT_EQ(payload("kept/report.html").at("runs").size(), 1u);
    ASSERT_EQ(run("report kept -o folder.html").code, 0);
    EXPECT_EQ(payload("folder.html").at("runs").size(), 1u);
    former = record("kept/runs/mha-s1");
    former.erase("page");
    write("kept/runs/mha-s1/statistics.json", former.dump());
    fs::remove(file("kept/report.html"));
    ASSERT_EQ(study_run("r.toml --out kept --stage results" + elsewhere).code, 0);
    EXPECT_FALSE(fs::exists(file("kept/report.html"))) << "there is nothing to draw";
    fs::remove_all(file("kept/runs/mha-s1"));
    fs::copy(file("s/runs/mha-s1"), file("kept/runs/mha-s1"), fs::copy_options::recursive);
    ASSERT_EQ(study_run("r.toml --out kept --stage results" + options).code, 0);
    EXPECT_EQ(study("kept").at("analysis"), before.at("analysis"));
    EXPECT_EQ(payload("kept/report.html").at("runs").size(), 1u);
    EXPECT_EQ(record("kept/runs/mha-s1"), record("s/runs/mha-s1"));
    // A record cannot be continued, so more steps start the run again.
    EXPECT_NE(run("study r.toml --out kept --list --train.steps=6" + options).out.find("0 of 2 runs done"),
              std::string::npos);
    const auto refused = [&](const std::string& text, std::initializer_list<std::string> parts) {
        write("kept/runs/mla-decoupled-s1/statistics.json", text);
        expect_failure("study r.toml --out kept --stage results" + options, 65, parts);
    };
    refused("{\"v\": 2}", {"statistics.json", "version 2, expected 1"});
    refused("[1, ", {"statistics.json", "not the record of a run"});
    refused("{\"v\": 1, \"summary\": {\"name\": 3}}", {"statistics.json", "not the record of a run"});
}

// The results that the repository keeps are those that its records give, and its page draws every run.
TEST_F(StudyTest, KeptResultsOfTheRepositoryAreReproduced) {
    const std::string results = source_file("tools/study/results/130m");
    fs::create_directory(file("kept"));
    fs::copy(results + "/runs", file("kept/runs"), fs::copy_options::recursive);
    const Result made =
        run("study '" + source_file("tools/study/130m.toml") + "' --out kept --stage results");
    ASSERT_EQ(made.code, 0) << made.err;
    const nlohmann::json now = study("kept").flatten(),
                         kept = nlohmann::json::parse(read_file(results + "/study.json", 1 << 24)).flatten();
    ASSERT_EQ(now.size(), kept.size());
    for (const auto& [place, value] : kept.items())
        if (value.is_number_float()) {  // libraries of mathematical functions differ in the last digit
            EXPECT_NEAR(now.at(place).get<double>(), value.get<double>(),
                        1e-9 * std::abs(value.get<double>()))
                << place;
        } else {
            EXPECT_EQ(now.at(place), value) << place;
        }
    const nlohmann::json page = payload("kept/report.html");
    const auto runs = std::distance(fs::directory_iterator(results + "/runs"), fs::directory_iterator());
    EXPECT_EQ(std::ssize(page.at("runs")), runs);
    for (const nlohmann::json& run : page.at("runs")) {
        const bool is_split = run.at("name").get<std::string>().find("decoupled") != std::string::npos ||
                              run.at("name").get<std::string>().find("shared") != std::string::npos;
        EXPECT_EQ(run.at("metrics").size(), is_split ? 12u : 4u) << "4 nulls of each form";
    }
    for (const auto& entry : fs::directory_iterator(results + "/runs"))
        EXPECT_LE(fs::file_size(entry.path() / "statistics.json"), 210'000u);
}

TEST_F(StudyTest, PassesOverARunThatFails) {
    const Result result = run(
        "study r.toml --out s --device cpu --variants mha --set train.lr=1e-3,1e30 --train.warmup_steps=0");
    EXPECT_EQ(result.code, 1) << result.out;
    EXPECT_NE(result.err.find("1 of 2 runs failed"), std::string::npos) << result.err;
    EXPECT_NE(result.out.find("mha-lr=1e30-s1: failed with exit code 72: pastur: "), std::string::npos)
        << result.out;
    EXPECT_NE(
        run("study r.toml --out s --variants mha --set train.lr=1e-3,1e30 --train.warmup_steps=0 --list")
            .out.find("failed"),
        std::string::npos);
    const nlohmann::json all = study("s");
    EXPECT_TRUE(all.at("runs").at(0).at("done").get<bool>());
    EXPECT_FALSE(all.at("runs").at(1).at("done").get<bool>());
    EXPECT_TRUE(all.at("runs").at(1).contains("error"));
    EXPECT_EQ(all.at("groups").at(1).at("seeds"), 0);
}

TEST_F(StudyTest, StopsWithACheckpointAndContinues) {
    const Result stopped =
        run("study r.toml --out s --device cpu --variants mha --train.steps=100000 "
            "--diagnostics.every=0 --run.tensorboard=false --max-time 3");
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_TRUE(fs::exists(file("s/runs/mha-s1/checkpoints/latest")));
    write("s/STOP", "");
    EXPECT_EQ(
        run("study r.toml --out s --device cpu --variants mha --train.steps=100000 --diagnostics.every=0 "
            "--run.tensorboard=false")
            .code,
        75);
}

// A killed study takes its runs along, and what a later one makes of them is the same.
TEST_F(StudyTest, KilledAtAnyMomentEndsInTheSameFigures) {
    const std::string options = " --variants mha,mla-decoupled --run.tensorboard=false --device cpu";
    ASSERT_EQ(study_run("r.toml --out whole" + options).code, 0);
    const char* const asked = std::getenv("PASTUR_STUDY_KILLS");
    std::mt19937 random(7);
    for (int kill = 0; kill < (asked ? std::atoi(asked) : 3); ++kill)
        shell(fmt::format("OMP_NUM_THREADS=1 timeout -s KILL 0.{:03} '{}' study r.toml --out s {}",
                          100 + random() % 600, binary().string(), options));
    const Result last = study_run("r.toml --out s" + options);
    EXPECT_EQ(last.code, 0) << last.err << last.out;
    EXPECT_EQ(results(study("s")), results(study("whole")));
}

TEST_F(StudyTest, RefusesBadDesignsByName) {
    const auto refused = [&](const std::string& text, std::initializer_list<std::string> parts) {
        write("bad.toml", text);
        expect_failure("study bad.toml --out s", 2, parts);
    };
    const std::string study = "[study]\nrecipe = \"r.toml\"\n";
    refused("[study]\nseeds = [1]\n", {"bad.toml", "needs a recipe"});
    refused(study + "seed = [1]\n", {"bad.toml:3", "unknown key \"seed\"", "did you mean \"seeds\""});
    refused(study + "seeds = [-1]\n", {"bad.toml:3", "seeds of 0 or more"});
    refused(study + "seeds = []\n", {"bad.toml:3", "expected a list of integers"});
    refused(study + "variants = [\"mla\"]\n", {"variants", "did you mean"});
    refused(study + "[sets]\n", {"bad.toml:3", "unknown section \"sets\"", "did you mean \"set\""});
    refused(study + "[set]\ntrain.lrr = 1\n", {"run mha-s1", "unknown key \"lrr\""});
    refused(study + "[arms.\"a/b\"]\n", {"\"a/b\"", "expected a name"});
    refused(study + "[arms.a]\nvariants = [\"mla-rope2\"]\n", {"arms.a", "did you mean"});
    refused(study + "seeds = [1, 1]\n", {"two runs are named mha-s1"});
    refused(study + "[set\n", {"bad.toml:3"});
    expect_failure("study d.toml --out s --seeds 1", 2, {"d.toml is a design", "--seeds"});
    expect_failure("study d.toml --out s --only 'mtla-*'", 2, {"--only mtla-*"});
    expect_failure("study r.toml --out s --set lr=1", 2, {"--set lr=1", "section.key=value"});
    expect_failure("study none.toml --out s", 66, {"none.toml"});
    EXPECT_FALSE(fs::exists(file("s")));
}

}  // namespace
}  // namespace pastur::test
