// `pastur report`: what it reads, what it leaves out, and the limits of its page.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/support/command_line.h"
#include "tests/support/expect_error.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::SampleRun;
using test::write_sample_run;

/// The payload of a page: the JSON between its script tags.
nlohmann::json payload_of(const std::string& page) {
    const std::string begin = "<script type=\"application/json\" id=\"data\">";
    const size_t at = page.find(begin) + begin.size();
    return nlohmann::json::parse(page.substr(at, page.find("</script>", at) - at));
}

class ReportCommand : public test::CommandLine {
  protected:
    std::string page(const std::string& name) const { return read_file(file(name), 1 << 26); }
};

TEST_F(ReportCommand, WritesOneSelfContainedPage) {
    write_sample_run(file("a"), {});
    write_sample_run(file("b"), {.variant = "mla-prerope", .ended = false});
    const test::Result result = run("report a b -o both.html");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("both.html"), std::string::npos);
    const std::string text = page("both.html");
    EXPECT_LE(text.size(), kMaxReportBytes);
    for (const char* loads :
         {"http:", "https:", "src=", "@import", "url(h", "fetch(", "XMLHttp", "WebSocket"})
        EXPECT_EQ(text.find(loads), std::string::npos) << loads;
    EXPECT_EQ(text.find("CPU </script>"), std::string::npos) << "text of a run must not end the script";

    const nlohmann::json payload = payload_of(text);
    ASSERT_EQ(payload.at("runs").size(), 2u);
    const nlohmann::json& second = payload["runs"][1];
    EXPECT_EQ(second["name"], "b");
    EXPECT_TRUE(second["end"].is_null());
    EXPECT_NE(second["notes"].dump().find("1 of 46 lines"), std::string::npos) << second["notes"];
    EXPECT_EQ(second["train"]["step"].size(), 40u);
    EXPECT_TRUE(second["train"]["grad_norm"][0].is_null());
    EXPECT_EQ(second["onsets"].size(), 2u);               // a spike and a collapse
    EXPECT_EQ(payload["runs"][0]["metrics"].size(), 4u);  // two nulls, of layers and of heads
    EXPECT_EQ(payload["runs"][0]["spectra"].size(), 2u);
    EXPECT_EQ(payload["runs"][0]["env"]["device"], "CPU </script>");
}

TEST_F(ReportCommand, ShowsTitleNotesAndAnalysis) {
    write_sample_run(file("a"), {.notes = "the first try"});
    write_sample_run(file("b"), {.variant = "mla-prerope"});
    ASSERT_EQ(run("report a b -o titled.html --title 'Rank \"study\" </title>' --notes 'two runs'").code, 0);
    const std::string text = page("titled.html");
    const nlohmann::json payload = payload_of(text);
    EXPECT_EQ(payload["title"], "Rank \"study\" </title>");
    EXPECT_EQ(payload["notes"], "two runs");
    EXPECT_NE(payload["runs"][0]["config"].dump().find("the first try"), std::string::npos);
    EXPECT_NE(payload["date"].get<std::string>().find("UTC"), std::string::npos);
    EXPECT_EQ(payload["analysis"]["findings"].size(), 3u);
    EXPECT_EQ(payload["analysis"]["groups"].size(), 2u);
    // What the user wrote stands in the JSON alone, and cannot end an element of the page.
    EXPECT_EQ(text.find("study\" </title>"), std::string::npos);
}

TEST_F(ReportCommand, TakesARunWithoutSpectraAndWritesIntoItsFolder) {
    write_sample_run(file("plain"), {.measured = {}});
    ASSERT_EQ(run("report plain").code, 0);
    EXPECT_TRUE(payload_of(page("plain/report.html"))["runs"][0]["spectra"].empty());
}

TEST_F(ReportCommand, FailsWithTheCodeOfWhatIsWrong) {
    expect_failure("report", 2, {"runs is required"});
    expect_failure("report nowhere", 66, {"nowhere/metrics.jsonl", "expected a run folder"});
    fs::create_directory(file("empty"));
    expect_failure("report empty -o x.html", 66, {"empty/metrics.jsonl"});
    fs::create_directory(file("binary"));
    write("binary/metrics.jsonl",
          "\x7f"
          "ELF\n\x01\x02\n");
    expect_failure("report binary -o x.html", 65, {"binary/metrics.jsonl", "none of its 2 lines"});
    write_sample_run(file("cut"), {});
    fs::resize_file(file("cut/spectra/step_00000020.npz"), 100);
    expect_failure("report cut -o x.html", 65, {"step_00000020.npz"});
    EXPECT_FALSE(fs::exists(file("x.html")));
    write_sample_run(file("good"), {});
    expect_failure("report good -o /proc/x.html", 74, {"/proc/x.html"});
}

TEST_F(ReportCommand, ThinsUntilThePageFits) {
    // All eigenvalues would take some 8 MB.
    SampleRun sample{.steps = 4000, .layers = 8, .heads = 12, .head_dim = 64, .measured = {}};
    for (int64_t step = 0; step <= 4000; step += 25) sample.measured.push_back(step);
    write_sample_run(file("big"), sample);
    sample.layers = 7;
    write_sample_run(file("big2"), sample);
    const test::Result result = run("report big big2 -o big.html");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_LE(fs::file_size(file("big.html")), kMaxReportBytes);
    EXPECT_GE(fs::file_size(file("big.html")), kMaxReportBytes * 6 / 10) << "thinned more than it had to be";
    const nlohmann::json payload = payload_of(page("big.html"));
    for (const nlohmann::json& run : payload["runs"]) {
        EXPECT_NE(run["notes"].dump().find("measured steps are on this page"), std::string::npos);
        ASSERT_EQ(run["spectra"].size(), 2u);
        for (size_t i = 0; i < 2; ++i) {  // layers and heads, of which heads may lose more steps
            const nlohmann::json& spectra = run["spectra"][i];
            EXPECT_EQ(spectra["steps"].front(), 0);
            EXPECT_EQ(spectra["steps"].back(), 4000);
            EXPECT_EQ(spectra["steps"], payload["runs"][0]["spectra"][i]["steps"]);
        }
    }
}

TEST(ReportJson, SurvivesAnyDamageToItsFiles) {
    const test::TempFolder folder;
    write_sample_run(folder.path() / "run", {.steps = 4, .measured = {0, 4}, .probed = true});
    for (const char* name : {"metrics.jsonl", "spectra/summary.jsonl", "spectra/logits.jsonl",
                             "spectra/latents.jsonl", "config.toml", "env.json"}) {
        const std::string good = read_file(folder.path() / "run" / name, 1 << 20);
        for (size_t i = 0; i < good.size(); i += 1 + good.size() / 150) {
            std::string bad = good;
            bad[i] = i % 2 == 0 ? '\0' : '9';
            std::ofstream(folder.path() / "run" / name) << (i % 3 == 0 ? bad.substr(0, i + 1) : bad);
            try {
                EXPECT_FALSE(make_report({folder.path() / "run"}).empty());
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ExitCode::kCorruptData) << error.what();
            }
        }
        std::ofstream(folder.path() / "run" / name) << good;
    }
}

TEST(ReportJson, ReadsMetricsIntoAGridAndKeepsTheLaterOfTwoRecords) {
    const test::TempFolder folder;
    std::ofstream(folder.path() / "summary.jsonl")
        << R"({"step":0,"layer":0,"head":-1,"matrix":"qk","null":"mp","lambda_max":1})"
           "\n"
        << R"({"step":0,"layer":2,"head":-1,"matrix":"qk","null":"mp","lambda_max":2,"flags":["zero"]})"
           "\n"
        << R"({"step":5,"layer":0,"head":-1,"matrix":"qk","null":"mp","lambda_max":3,"what":{"is":"this"}})"
           "\n"
        << R"({"step":0,"layer":0,"head":-1,"matrix":"qk","null":"mp","lambda_max":4})"
           "\n"
        << R"({"step":0,"layer":0,"head":1,"matrix":"qk","null":"mp","lambda_max":null})"
           "\n"
        << R"({"layer":0,"head":1,"matrix":"qk","null":"mp"})"
           "\n[1]\n{\"step\":";
    std::vector<std::string> notes;
    const std::vector<MetricGrid> grids = read_metric_grids(folder.path(), notes);
    ASSERT_EQ(grids.size(), 2u);
    EXPECT_EQ(grids[0].layers, (std::vector<int64_t>{0, 2}));
    EXPECT_EQ(grids[0].steps, (std::vector<int64_t>{0, 5}));
    const std::vector<float>& values = grids[0].metrics.at("lambda_max");
    ASSERT_EQ(values.size(), 4u);
    EXPECT_EQ(values[0], 4);
    EXPECT_EQ(values[1], 2);
    EXPECT_EQ(values[2], 3);
    EXPECT_TRUE(std::isnan(values[3]));
    EXPECT_EQ(grids[0].flags, (std::map<std::string, int64_t>{{"zero", 1}}));
    EXPECT_TRUE(grids[1].metrics.empty()) << "a metric that is null everywhere";
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_NE(notes[0].find("3 lines"), std::string::npos) << notes[0];
}

TEST(ReportJson, ReadsBothFormsOfASummary) {
    const test::TempFolder folder;
    std::ofstream(folder.path() / "summary.jsonl")
        << R"({"step":0,"layer":0,"head":-1,"matrix":"qk","null":"mp","n":4,"rows":8,"cols":6,"lambda_max":3,)"
           R"("lambda_plus":1,"flags":["zero","null_zero"]})"
           "\n"
        << R"({"step":0,"layer":0,"head":-1,"matrix":"qk","null":"product","n":4,"dims":[8,4,6],"lambda_max":3,)"
           R"("lambda_plus":2,"flags":["zero"]})"
           "\n";
    std::vector<std::string> notes;
    const std::vector<MetricGrid> former = read_metric_grids(folder.path(), notes);
    std::ofstream(folder.path() / "summary.jsonl")
        << R"({"v":2,"step":0,"layer":0,"head":-1,"matrix":"qk","n":4,"dims":[8,4,6],"flags":["zero"],)"
           R"("lambda_max":3,"nulls":{"mp":{"lambda_plus":1,"flags":["null_zero"]},"product":{"lambda_plus":2}}})"
           "\n";
    const std::vector<MetricGrid> grids = read_metric_grids(folder.path(), notes);
    EXPECT_EQ(notes.size(), 0u);
    ASSERT_EQ(grids.size(), 2u);
    ASSERT_EQ(former.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(grids[i].null, i == 0 ? "mp" : "product");
        EXPECT_EQ(grids[i].null, former[i].null);
        EXPECT_EQ(grids[i].chains, former[i].chains);
        EXPECT_EQ(grids[i].metrics, former[i].metrics);
        EXPECT_EQ(grids[i].flags, former[i].flags);
    }
    EXPECT_EQ(grids[0].chains, (std::vector<std::vector<int64_t>>{{8, 6}}));
    EXPECT_EQ(grids[0].metrics.at("lambda_plus"), std::vector<float>{1});
    EXPECT_EQ(grids[1].metrics.at("lambda_plus"), std::vector<float>{2});
}

TEST(ReportJson, RefusesRecordsThatAreNoGrid) {
    const test::TempFolder folder;
    std::ofstream out(folder.path() / "summary.jsonl");
    for (int i = 0; i < 300; ++i)
        out << fmt::format("{{\"step\":{},\"layer\":{},\"head\":{},\"matrix\":\"qk\",\"null\":\"mp\"}}\n", i,
                           i, i);
    out.close();
    std::vector<std::string> notes;
    expect_error(ExitCode::kCorruptData, {"summary.jsonl", "300 records"},
                 [&] { read_metric_grids(folder.path(), notes); });
}

}  // namespace
}  // namespace pastur
