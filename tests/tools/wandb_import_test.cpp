// tools/wandb_import.py: what it brings into W&B and MLflow, read back from their files.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/files.h"
#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Result;
using test::write_sample_run;

class WandbImport : public test::CommandLine {
  protected:
    WandbImport() : CommandLine(test::folder_in_memory()) {}
    static bool has(const std::string& package) {
        return std::system(("python3 -c 'import importlib.util as u, sys; sys.exit(u.find_spec(\"" + package +
                            "\") is None)'")
                               .c_str()) == 0;
    }
    static std::string script(const std::string& name) { return std::string(PASTUR_SOURCE_DIR) + "/" + name; }
    Result import(const std::string& arguments) const {
        return shell(
            "WANDB_MODE=offline WANDB_SILENT=true MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI=\"file:$PWD/mlruns\" "
            "HOME=\"$PWD\" python3 '" +
            script("tools/wandb_import.py") + "' " + arguments);
    }
    void expect_imported(const std::string& arguments, const std::string& says) const {
        const Result result = import(arguments);
        ASSERT_EQ(result.code, 0) << result.err;
        EXPECT_NE(result.out.find(says), std::string::npos) << result.out << result.err;
    }
    json wandb() const {
        const Result result = shell("python3 '" + script("tests/tools/read_wandb.py") + "' wandb");
        EXPECT_EQ(result.code, 0) << result.err;
        return json::parse(result.out);
    }
    std::vector<json> events(const std::string& run) const {
        std::vector<json> all;
        std::ifstream in(file(run + "/metrics.jsonl"));
        for (std::string line; std::getline(in, line);)
            if (json event = json::parse(line, nullptr, false); event.is_object())
                all.push_back(std::move(event));
        return all;
    }
    /// What a resume after `step` does to metrics.jsonl: a shorter file takes its place.
    void resume_after(const std::string& run, int64_t step) const {
        std::ofstream kept(file(run + "/new")), moved(file(run + "/metrics.abandoned.jsonl"), std::ios::app);
        for (const json& event : events(run))
            (event.at("step") > step ? moved : kept) << event.dump() << "\n";
        kept << json{{"v", 1}, {"event", "start"}, {"step", step}, {"resumed", true}, {"time", 99.5}}.dump()
             << "\n";
        kept.close();
        fs::rename(file(run + "/new"), file(run + "/metrics.jsonl"));
    }
    void append(const std::string& run, const json& event) const {
        std::ofstream(file(run + "/metrics.jsonl"), std::ios::app) << event.dump() << "\n";
    }
    /// [[step, value], ...] of the events of a run.
    json curve(const std::string& run, const char* event, const char* key) const {
        json points = json::array();
        for (const json& one : events(run))
            if (one.at("event") == event && one.at(key).is_number())
                points.push_back({one.at("step"), one.at(key)});
        return points;
    }
};

TEST_F(WandbImport, SaysWhatIsMissing) {
    write_sample_run(file("a"), {.measured = {}});
    // An empty site leaves the standard library alone.
    for (const char* to : {"wandb", "mlflow"}) {
        const Result result = shell("python3 -S -E '" + script("tools/wandb_import.py") + "' a --to " + to);
        EXPECT_EQ(result.code, 69) << result.err;
        EXPECT_NE(result.err.find(fmt::format("with `pip install {}`", to)), std::string::npos) << result.err;
    }
    EXPECT_EQ(import("nowhere").code, 66);
    EXPECT_EQ(import("a a --follow").code, 2);
}

TEST_F(WandbImport, OfflineRunsOfWandbHoldEverythingOnce) {
    if (!has("wandb")) GTEST_SKIP() << "python3 has no wandb";
    write_sample_run(file("a"), {.ended = false});
    std::ofstream(file("a/spectra/summary.jsonl"), std::ios::app)
        << "{}\n[]\nx\n{\"step\":\"x\"}\n"
        << std::string(5000, '[') << "\n"
        << R"({"step":40,"layer":"a","head":[],"matrix":3,"nulls":{"mp":5},"stable_rank":2})"
        << "\n"
        << R"({"step":40,"layer":0,"head":0,"matrix":{},"nulls":{"mp":5},"stable_rank":null})"
        << "\n";
    expect_imported("a --name first", "not ended");
    const json before = wandb();
    EXPECT_EQ(before.at("ids").size(), 1u);
    EXPECT_EQ(before.at("config").at("attention").at("variant"), "mha");
    EXPECT_EQ(before.at("config").at("env").at("device"), "CPU </script>");
    const json& history = before.at("history");
    EXPECT_EQ(history.at("train/loss"), curve("a", "train", "loss"));
    EXPECT_EQ(history.at("val/loss"), curve("a", "val", "loss"));
    EXPECT_FALSE(history.at("events/spikes").empty());
    const json& rank = history.at("spectral.stable_rank.qk/L01");
    ASSERT_EQ(rank.size(), 4u) << "one point for each measured step";
    EXPECT_EQ(rank[3][0], 40);
    EXPECT_EQ(history.at("spectral.outlier_count.product.qk/L00.heads")[3], (json{40, 1}));
    // A resume goes back to step 30; 31 to 40 have the same numbers, and 41 is new.
    resume_after("a", 30);
    std::vector<json> repeated;
    {
        std::ifstream moved(file("a/metrics.abandoned.jsonl"));
        for (std::string line; std::getline(moved, line);) repeated.push_back(json::parse(line));
    }
    for (json& event : repeated) {
        event["time"] = 100;
        if (event.contains("tokens_per_s")) event["tokens_per_s"] = 5;
        append("a", event);
    }
    append("a", {{"v", 1}, {"event", "train"}, {"step", 41}, {"loss", 1.5}, {"time", 101}});
    append("a", {{"v", 1}, {"event", "end"}, {"step", 41}, {"status", "nonfinite"}, {"time", 102}});
    expect_imported("a", "3 events to wandb");  // start, train, end
    const json after = wandb();
    EXPECT_EQ(after.at("ids")[0], after.at("ids")[1]);
    EXPECT_EQ(after.at("history").at("train/loss"), curve("a", "train", "loss"));
    EXPECT_EQ(after.at("exit_codes").back(), 72);
    EXPECT_EQ(after.at("summary").at("end/status"), "nonfinite");
}

TEST_F(WandbImport, FollowsARunAcrossItsResume) {
    if (!has("wandb")) GTEST_SKIP() << "python3 has no wandb";
    write_sample_run(file("a"), {.steps = 20, .measured = {0, 10}, .ended = false});
    auto process = std::async(std::launch::async, [this] { return import("a --follow --every 0.1"); });
    const auto journal = [this] {
        const fs::path path = file("a/.imported-wandb-pastur");
        return fs::exists(path) ? read_file(path, 1 << 20).size() : 0;
    };
    for (int i = 0; i < 6000 && journal() < 300; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    resume_after("a", 10);
    for (int64_t step = 11; step <= 25; ++step)
        append("a", {{"v", 1}, {"event", "train"}, {"step", step}, {"loss", 3.25}});
    append("a", {{"v", 1}, {"event", "end"}, {"step", 25}, {"status", "done"}});
    const Result result = process.get();
    EXPECT_EQ(result.code, 0) << result.err;
    const json found = wandb();
    EXPECT_EQ(found.at("ids").size(), 1u);
    EXPECT_EQ(found.at("exit_codes"), json{0});
    // Steps 11 to 20 have other numbers than before, so they follow.
    const json& loss = found.at("history").at("train/loss");
    ASSERT_EQ(loss.size(), 20u + 15);
    EXPECT_EQ(loss[20], (json{11, 3.25}));
    EXPECT_EQ(loss.back(), (json{25, 3.25}));
}

TEST_F(WandbImport, AnMlflowFileStoreHoldsEverythingOnce) {
    if (!has("mlflow")) GTEST_SKIP() << "python3 has no MLflow";
    write_sample_run(file("a"), {});
    expect_imported("a --to mlflow --project spectra --group g", "to mlflow as pastur-");
    fs::path found;
    for (const auto& entry : fs::recursive_directory_iterator(file("mlruns")))
        if (entry.path().filename() == "params") found = entry.path().parent_path();
    ASSERT_FALSE(found.empty());
    const auto text = [&](const std::string& name) { return read_file(found / name, 1 << 24); };
    EXPECT_EQ(text("params/attention.variant"), "mha");
    EXPECT_EQ(text("tags/pastur.group"), "g");
    EXPECT_EQ(text("tags/env.device"), "CPU </script>");
    EXPECT_NE(text("meta.yaml").find("status: 3"), std::string::npos) << "finished";
    const auto points = [&](const std::string& metric) {  // lines "<time in ms> <value> <step>"
        std::istringstream lines(text("metrics/" + metric));
        json all = json::array();
        double time = 0, value = 0;
        for (int64_t step = 0; lines >> time >> value >> step;) all.push_back({step, value});
        return all;
    };
    EXPECT_EQ(points("train/loss"), curve("a", "train", "loss"));
    EXPECT_EQ(points("val/loss"), curve("a", "val", "loss"));
    EXPECT_EQ(points("spectral.stable_rank.qk/L00").size(), 4u);
    EXPECT_EQ(text("artifacts/metrics.jsonl"), read_file(file("a/metrics.jsonl"), 1 << 24));
    expect_imported("a --to mlflow --project spectra", ": 0 events to mlflow");
    EXPECT_EQ(points("train/loss"), curve("a", "train", "loss"));
}

}  // namespace
}  // namespace pastur
