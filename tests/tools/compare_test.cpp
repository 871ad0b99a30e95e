// pastur compare: what it says of runs in every state, and what it does with folders that are no runs.
#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"

namespace pastur::test {
namespace {

class Compare : public CommandLine {
  protected:
    Compare() {
        fs::create_directory(file("runs"));
        SampleRun done;
        write_sample_run(file("runs/done"), done);
        write("runs/done/config.toml", "[train]\nsteps = 40\n");
        SampleRun killed;
        killed.variant = "mla-decoupled";
        killed.steps = 30;
        killed.ended = false;
        killed.measured = {};
        write_sample_run(file("runs/killed"), killed);
        fs::create_directory(file("runs/notes"));
        write("runs/readme.txt", "not a run");
        write_spectra();
    }
    /// Two layers and a head; the last measurement is of step 20.
    void write_spectra() const {
        std::ofstream out(file("runs/done/spectra/summary.jsonl"));
        const auto record = [&](int step, int layer, int head, const char* null, double stable_rank,
                                double ratio, const std::string& more = "") {
            out << "{\"v\":1,\"step\":" << step << ",\"layer\":" << layer << ",\"head\":" << head
                << ",\"matrix\":\"qk\",\"null\":\"" << null << "\",\"stable_rank\":" << stable_rank
                << ",\"lambda_max\":" << 2 * ratio << ",\"lambda_plus\":2" << more << "}\n";
        };
        for (const char* null : {"product", "mp"}) {
            record(0, 0, -1, null, 8, 1);
            record(0, 1, -1, null, 10, 1);
        }
        for (const char* null : {"product", "mp"}) {
            record(20, 0, -1, null, 2, null[0] == 'p' ? 3 : 30);
            record(20, 1, -1, null, 7.5, null[0] == 'p' ? 5 : 20, null[0] == 'p' ? ",\"kept_null\":0.4" : "");
            record(20, 0, 1, null, 1, 99);  // heads do not count where layers are measured
        }
    }
    /// Two heads; the last measurement is of step 20.
    void write_logits() const {
        std::ofstream out(file("runs/done/spectra/logits.jsonl"));
        out << R"({"v":1,"step":10,"layer":0,"head":0,"max_logit":99,"entropy":9,"entropy_ratio":0.9})"
            << "\n"
            << R"({"v":1,"step":20,"layer":0,"head":0,"max_logit":2.5,"entropy":3,"entropy_ratio":0.5})"
            << "\n"
            << R"({"v":1,"step":20,"layer":0,"head":1,"max_logit":7.5,"entropy":2,"entropy_ratio":0.25})"
            << "\n";
    }
    std::map<std::string, nlohmann::json> by_name(const std::string& json) const {
        std::map<std::string, nlohmann::json> runs;
        for (const nlohmann::json& run : nlohmann::json::parse(read_file(file(json), 1 << 20)))
            runs[run.at("run").get<std::string>()] = run;
        return runs;
    }
};

TEST_F(Compare, NamesRunsAndPassesOverTheRest) {
    const Result result = run("compare runs/*/ runs/readme.txt nowhere --json all.json");
    EXPECT_EQ(result.code, 0) << result.err;
    for (const char* path : {"runs/notes/", "runs/readme.txt", "nowhere"})
        EXPECT_NE(result.err.find(std::string("pastur: ") + path + " is passed over: not a run folder"),
                  std::string::npos)
            << result.err;
    EXPECT_EQ(result.out.find("run "), 0u) << result.out;
    EXPECT_NE(result.out.find("\ndone "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("\nkilled "), std::string::npos) << result.out;
    EXPECT_EQ(by_name("all.json").size(), 2u);
    const Result none = run("compare nowhere runs/notes");
    EXPECT_EQ(none.code, 66);
    EXPECT_NE(none.err.find("none of the 2 paths is one"), std::string::npos) << none.err;
}

TEST_F(Compare, SaysTheStepOfEveryFigure) {
    const Result result = run("compare runs/done runs/killed --json all.json");
    ASSERT_EQ(result.code, 0) << result.err;
    auto runs = by_name("all.json");
    const nlohmann::json& done = runs.at("done");
    EXPECT_EQ(done.at("variant"), "mha");
    EXPECT_EQ(done.at("step"), 40);
    EXPECT_EQ(done.at("steps"), 40);
    EXPECT_DOUBLE_EQ(done.at("train_loss").get<double>(), 3.2);
    EXPECT_DOUBLE_EQ(done.at("val_loss").get<double>(), 3.3);
    EXPECT_EQ(done.at("val_step"), 40);
    EXPECT_EQ(done.at("tokens_per_s"), 1000.5);
    EXPECT_EQ(done.at("mem_gib"), 0.5);
    EXPECT_EQ(done.at("spike_onset"), 20);
    EXPECT_EQ(done.at("collapse_onset"), 40);
    EXPECT_EQ(done.at("status"), "done");
    const nlohmann::json& killed = runs.at("killed");
    EXPECT_EQ(killed.at("step"), 30);
    EXPECT_EQ(killed.at("val_step"), 20) << "the last validation is older than the last step";
    EXPECT_TRUE(killed.at("spike_onset").is_null());
    EXPECT_TRUE(killed.at("kept_step0").is_null());
    EXPECT_NE(result.out.find("3.2000 @40"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("4.1000 @20"), std::string::npos) << result.out;
}

TEST_F(Compare, KeepsRanksAndPeaksUnderBothNulls) {
    ASSERT_EQ(run("compare runs/done --json all.json").code, 0);
    auto runs = by_name("all.json");
    const nlohmann::json& done = runs.at("done");
    EXPECT_EQ(done.at("spectra_step"), 20);
    EXPECT_DOUBLE_EQ(done.at("kept_step0").get<double>(), (2.0 / 8 + 7.5 / 10) / 2);
    EXPECT_DOUBLE_EQ(done.at("kept_null").get<double>(), 0.4);
    EXPECT_EQ(done.at("peak_ratio_product"), 5);
    EXPECT_EQ(done.at("peak_ratio_mp"), 30);
}

TEST_F(Compare, HasTheLogitsOfTheLastMeasurement) {
    write_logits();
    ASSERT_EQ(run("compare runs/* --json all.json").code, 0);
    const auto runs = by_name("all.json");
    EXPECT_EQ(runs.at("done").at("max_logit"), 7.5);
    EXPECT_EQ(runs.at("done").at("attention_entropy"), 2.5);
    EXPECT_EQ(runs.at("done").at("entropy_ratio"), 0.375);
    for (const char* key : {"max_logit", "attention_entropy", "entropy_ratio"})
        EXPECT_TRUE(runs.at("killed").at(key).is_null()) << key;
}

TEST_F(Compare, TellsRunningDiedAndResumed) {
    const auto status = [&](const std::string& name) {
        EXPECT_EQ(run("compare runs/* --json all.json").code, 0);
        const auto runs = by_name("all.json");
        return std::pair(runs.at(name).at("status").get<std::string>(),
                         runs.at(name).at("resumes").get<int>());
    };
    EXPECT_EQ(status("killed"), (std::pair<std::string, int>("running", 0)));
    const auto an_hour_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
    fs::last_write_time(file("runs/killed/metrics.jsonl"), an_hour_ago);
    EXPECT_EQ(status("killed"), (std::pair<std::string, int>("died", 0)));
    std::ofstream(file("runs/killed/metrics.jsonl"), std::ios::app)
        << "\n{\"v\":1,\"event\":\"start\",\"step\":20,\"resumed\":true,\"variant\":\"mha\"}\n"
           "{\"v\":1,\"event\":\"end\",\"step\":20,\"status\":\"requeue\"}\n";
    EXPECT_EQ(status("killed"), (std::pair<std::string, int>("requeue", 1)));
    std::ofstream(file("runs/killed/metrics.jsonl"), std::ios::app)
        << "{\"v\":1,\"event\":\"start\",\"step\":20,\"resumed\":true,\"variant\":\"mha\"}\n";
    EXPECT_EQ(status("killed"), (std::pair<std::string, int>("running", 2))) << "its last end is not the end";
}

TEST_F(Compare, SortsAndWritesCsv) {
    ASSERT_EQ(run("compare runs/* --sort step --csv all.csv").code, 0);
    const std::string csv = read_file(file("all.csv"), 1 << 20);
    EXPECT_EQ(csv.find("run,variant,parameters,"), 0u) << csv;
    EXPECT_LT(csv.find("\nkilled,mla-decoupled,1000000,"), csv.find("\ndone,mha,")) << csv;
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
    ASSERT_EQ(run("compare runs/* --sort val_loss --csv all.csv").code, 0);
    const std::string by_loss = read_file(file("all.csv"), 1 << 20);
    EXPECT_LT(by_loss.find("\ndone,"), by_loss.find("\nkilled,"));
    ASSERT_EQ(run("compare runs/killed runs/done --sort spike_onset --csv all.csv").code, 0);
    const std::string by_onset = read_file(file("all.csv"), 1 << 20);
    EXPECT_LT(by_onset.find("\ndone,"), by_onset.find("\nkilled,")) << "a run without the figure comes last";
    expect_failure("compare runs/done --sort val_los", 2, {"--sort val_los", "did you mean val_loss?"});
    expect_failure("compare runs/done --csv /proc/x", 74, {"/proc/x"});
}

}  // namespace
}  // namespace pastur::test
