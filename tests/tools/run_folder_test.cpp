// Runs that can be found again: continued from any folder, never over files of others, and never silent at their end.
#include <chrono>

#include "tests/support/ranks.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::Result;

class Runs : public test::TrainingLine {
  protected:
    static bool says(const Result& result, const std::string& part) {
        return result.out.find(part) != std::string::npos;
    }
    /// Takes the last checkpoint away: a resumed run has two steps to go.
    void cut(const std::string& run_folder) const {
        fs::remove_all(file(run_folder + "/checkpoints/step_00000004"));
    }
};

TEST_F(Runs, ContinueFromAnyFolder) {
    ASSERT_EQ(run("train r.toml --run run --device cpu").code, 0);
    const auto whole = outcome("run");
    fs::create_directory(file("elsewhere"));
    const std::string program = "'" + binary().string() + "' ";
    for (const char* name : {"../run", "../run/", "../run/config.toml"}) {
        cut("run");
        const Result result =
            shell("cd elsewhere && " + program + "train " + name + " --resume --device cpu");
        EXPECT_EQ(result.code, 0) << name << ": " << result.err;
        EXPECT_TRUE(says(result, "resuming after step 2")) << result.out;
        EXPECT_EQ(outcome("run"), whole) << name;
    }
    EXPECT_TRUE(fs::is_empty(file("elsewhere"))) << "no run began there";
    const std::string config = read_file(file("run/config.toml"), 1 << 20);
    for (const char* path : {"corpus", "corpus/train_*.bin", "run"})
        EXPECT_NE(config.find("\"" + file(path) + "\""), std::string::npos) << path << " in\n" << config;
    expect_failure("train run --device cpu", 2, {"give --resume", "run"});
    expect_failure("train elsewhere --resume", 66,
                   {"elsewhere: expected a recipe (TOML) or the folder of a run"});
    // A moved folder is the run's, whatever its config.toml says.
    fs::rename(file("run"), file("moved"));
    cut("moved");
    EXPECT_EQ(run("train moved/config.toml --resume --device cpu").code, 0);
    EXPECT_FALSE(fs::exists(file("run")));
    EXPECT_EQ(outcome("moved"), whole);
}

TEST_F(Runs, ARunsRecipeMayBeginAnotherRun) {
    ASSERT_EQ(run("train r.toml --run run --device cpu").code, 0);
    EXPECT_EQ(run("train run/config.toml --run other --device cpu").code, 0);
    EXPECT_EQ(run("train run --run.name=third --device cpu").code, 0);
    EXPECT_EQ(outcome("other"), outcome("run"));
    EXPECT_EQ(outcome("runs/third"), outcome("run"));
}

TEST_F(Runs, LeaveFilesOfOthersAlone) {
    for (const char* name : {"config.toml", "env.json", "metrics.jsonl", "report.html"}) {
        fs::remove_all(file("mine"));
        fs::create_directory(file("mine"));
        write(std::string("mine/") + name, "{\"mine\": true}\n");
        for (const char* resume : {"", " --resume"})
            expect_failure(std::string("train r.toml --run mine --device cpu") + resume, 2,
                           {std::string("mine/") + name, "--run"});
        EXPECT_EQ(read_file(file(std::string("mine/") + name), 100), "{\"mine\": true}\n");
        EXPECT_EQ(std::distance(fs::directory_iterator(file("mine")), {}), 1) << "nothing else was written";
    }
    fs::remove_all(file("mine"));
    fs::create_directory(file("mine"));
    write("mine/notes.txt", "unrelated");
    EXPECT_EQ(run("train r.toml --run mine --device cpu").code, 0) << "nothing would be overwritten";
}

TEST_F(Runs, SayEveryCheckpointAndHowTheyEnded) {
    const Result result = run("train r.toml --run run --device cpu");
    ASSERT_EQ(result.code, 0) << result.err;
    for (const char* part : {"step 2: checkpoint run/checkpoints/step_00000002 (",
                             "step 4: checkpoint run/checkpoints/step_00000004 (",
                             "done: 4 steps, 256 tokens in 0:00:0", ", median ", "tok/s, peak memory 0.",
                             " GiB, best validation loss ", ", checkpoint run/checkpoints/step_00000004\n"})
        EXPECT_TRUE(says(result, part)) << part << " in\n" << result.out;
    const nlohmann::json end = metrics("run").back();
    double best = INFINITY;
    for (const nlohmann::json& event : metrics("run"))
        if (event["event"] == "val") best = std::min(best, event["loss"].get<double>());
    EXPECT_EQ(end.at("best_val"), best);
    EXPECT_TRUE(says(result, fmt::format("best validation loss {:.4f} (step {})", best,
                                         end.at("best_val_step").get<int64_t>())))
        << result.out;
}

TEST_F(Runs, SayWhyTheyStopAndHowToContinue) {
    fs::create_directory(file("a run"));
    write("a run/STOP", "");
    const Result stopped = run("train r.toml --run 'a run' --device cpu");
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_TRUE(says(stopped, "this run will stop: the file a run/STOP requests it")) << stopped.out;
    const nlohmann::json end = metrics("a run").back();
    const int64_t step = end.at("step").get<int64_t>();
    EXPECT_TRUE(
        says(stopped, fmt::format("stopped after step {} of 4 because of the file a run/STOP, checkpoint a "
                                  "run/checkpoints/step_{:08}: remove that file, then continue with "
                                  "`pastur train 'a run' --resume`\n",
                                  step, step)))
        << stopped.out;
    EXPECT_LE(step, 1);
    EXPECT_EQ(end.at("reason"), "the file a run/STOP");
    const Result forgotten = run("train 'a run' --resume --device cpu");
    EXPECT_EQ(forgotten.code, 75);
    EXPECT_TRUE(says(forgotten, " of 4 because of the file a run/STOP")) << forgotten.out;
    fs::remove(file("a run/STOP"));
    const Result late = run("train 'a run' --resume --device cpu --max-time 0.001s");
    EXPECT_EQ(late.code, 75);
    EXPECT_TRUE(says(late, "because of --max-time")) << late.out;
    EXPECT_TRUE(says(late, "continue with `pastur train 'a run' --resume`")) << late.out;
    EXPECT_EQ(run("train 'a run' --resume --device cpu").code, 0);
}

TEST_F(Runs, LogTimeAndMemoryThroughResumes) {
    const auto now = [] {
        return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    };
    const double before = now();
    ASSERT_EQ(run("train r.toml --run run --device cpu").code, 0);
    const double first = metrics("run").back().at("elapsed_s").get<double>();
    cut("run");
    ASSERT_EQ(run("train run --resume --device cpu").code, 0);
    double time = before, elapsed = 0, planned = 0;
    for (const nlohmann::json& event : metrics("run")) {
        if (event["event"] == "spike" || event["event"] == "collapse") continue;
        EXPECT_GE(event.at("time").get<double>(), time);
        EXPECT_GE(event.at("elapsed_s").get<double>(), elapsed) << "time of the first part counts";
        time = event.at("time").get<double>();
        elapsed = event.at("elapsed_s").get<double>();
        if (event["event"] == "start") planned = event.at("planned_gib").get<double>();
        if (event["event"] != "train") continue;
        EXPECT_GT(event.at("mem_gib").get<double>(), planned) << "the plan, and the program itself";
        EXPECT_LT(event.at("mem_gib").get<double>(), planned + 1);
        EXPECT_FALSE(event.contains("gpu_power_w")) << "on the CPU";
    }
    EXPECT_LE(time, now());
    EXPECT_GT(first, 0);
    EXPECT_LE(elapsed, now() - before) << "the time between both parts does not count";
}

using RunsOnRanks = test::Ranks;

TEST_F(RunsOnRanks, ContinueOnRanksThatTheirMicroBatchDoesNotDivideOver) {
    const Result alone = train(1, "run", "--train.micro_batch=8 --checkpoint.every=3");
    ASSERT_EQ(alone.code, 0) << alone.err;
    fs::remove_all(checkpoint("run", 6));
    const std::string line = "'" + binary().string() + "' train run --resume --device cpu";
    const Result two = shell(launcher(2) + line);
    EXPECT_EQ(two.code, 0) << two.err;
    EXPECT_NE(two.out.find("micro-batches were of 8 sequences and are of 4"), std::string::npos) << two.out;
    EXPECT_EQ(shell(launcher(2) + line + " --train.micro_batch=8").code, 2) << "as it was told";
}

}  // namespace
}  // namespace pastur
