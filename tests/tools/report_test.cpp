// `pastur report`: what it reads, what it leaves out, and the limits of its page.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "diag/product_law.h"
#include "diag/product_sum_law.h"
#include "tests/support/command_line.h"
#include "tests/support/expect_error.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_laws.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::SampleRun;
using test::write_sample_run;

constexpr size_t kRoom = 4'000'000;

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
    EXPECT_EQ(second["events"].size(), 2u);
    EXPECT_EQ(payload["runs"][0]["metrics"].size(), 4u);  // two nulls, of layers and of heads
    EXPECT_EQ(payload["runs"][0]["spectra"].size(), 2u);
    EXPECT_EQ(payload["runs"][0]["env"]["device"], "CPU </script>");
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
        for (const nlohmann::json& spectra : run["spectra"]) {
            EXPECT_EQ(spectra["steps"].front(), 0);
            EXPECT_EQ(spectra["steps"].back(), 4000);
            EXPECT_EQ(spectra["steps"], payload["runs"][0]["spectra"][0]["steps"]);
        }
    }
}

TEST(ReportJson, SurvivesAnyDamageToItsFiles) {
    const test::TempFolder folder;
    write_sample_run(folder.path() / "run", {.steps = 4, .measured = {0, 4}});
    for (const char* name : {"metrics.jsonl", "spectra/summary.jsonl", "config.toml", "env.json"}) {
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
    ASSERT_EQ(grids[0].flagged.size(), 1u);
    EXPECT_EQ(grids[0].flagged[0]["layer"], 2);
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
        EXPECT_EQ(grids[i].flagged, former[i].flagged);
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

TEST(ReportPayload, HoldsTheEigenvaluesOfTheFiles) {
    const test::TempFolder folder;
    write_sample_run(folder.path(), {});
    const EigenvalueFiles files(folder.path() / "spectra");
    EXPECT_EQ(files.steps(), (std::vector<int64_t>{0, 10, 20, 40}));
    ASSERT_EQ(files.groups().size(), 2u);
    const EigenvalueGroup& heads = files.groups()[1];
    EXPECT_TRUE(heads.per_head);
    const std::vector<double> values = files.read(heads, 40);
    ASSERT_EQ(values.size(), 2u * 3 * 8);
    // sample_run.cpp makes the largest of layer 1 at step 40 (1 - 1/16)^2 (1 + 40 * 2 / 10).
    EXPECT_DOUBLE_EQ(values[1 * 3 * 8], std::pow(15.0 / 16, 2) * 9);

    const nlohmann::ordered_json payload = report_payload({folder.path()}, kRoom);
    const nlohmann::ordered_json& shown = payload["runs"][0]["spectra"][1];
    std::string packed;
    for (const int64_t step : files.steps()) packed += pack_spectra(files.read(heads, step), heads.n);
    EXPECT_EQ(payload["blobs"][shown["blob"].get<size_t>()], base64(std::as_bytes(std::span(packed))));
}

/// The floats of one of the payload's base64 blobs.
std::vector<float> floats_of(const nlohmann::ordered_json& payload, const nlohmann::ordered_json& index) {
    const std::string text = payload["blobs"][index.get<size_t>()];
    std::string bytes;
    for (size_t i = 0; i < text.size(); i += 4) {
        uint32_t group = 0;
        for (size_t j = 0; j < 4; ++j) {
            const std::string_view digits =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            const size_t digit = digits.find(text[i + j]);
            group = group << 6 | static_cast<uint32_t>(digit == std::string_view::npos ? 0 : digit);
        }
        for (int shift = 16; shift >= 0; shift -= 8) bytes += static_cast<char>(group >> shift & 255);
    }
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
}

TEST(ReportPayload, CarriesTheLawOfEveryNullOnce) {
    const test::TempFolder folder;
    write_sample_run(folder.path() / "a", {});
    write_sample_run(folder.path() / "b", {.variant = "mla-decoupled"});
    write_sample_run(folder.path() / "c", {});
    const auto payload =
        report_payload({folder.path() / "a", folder.path() / "b", folder.path() / "c"}, kRoom);
    // One for the layers of mha, one for its heads, one for mp at 24 x 24; four ratios each for layers and
    // heads of the sum.
    ASSERT_EQ(payload["laws"].size(), 3u + 2 * 4);
    const auto grid = [&](int run, const char* null, bool per_head) {
        for (const auto& candidate : payload["runs"][static_cast<size_t>(run)]["metrics"])
            if (candidate["null"] == null && candidate["perHead"] == per_head) return candidate;
        return nlohmann::ordered_json();
    };
    const auto expect_curve = [&](size_t index, const auto& law) {
        const auto& json = payload["laws"][index];
        EXPECT_EQ(json["count"], law.count());
        EXPECT_NEAR(json["lower"], law.lower_edge() / law.upper_edge(), 1e-6);
        EXPECT_NEAR(json["band"][0], law.tracy_widom_quantile(0.01) / law.upper_edge(), 1e-6);
        EXPECT_NEAR(json["band"][1], law.tracy_widom_quantile(0.99) / law.upper_edge(), 1e-6);
        const std::vector<float> points = floats_of(payload, json["points"]);
        const size_t n = points.size() / 3;
        EXPECT_GE(n, 90u);
        EXPECT_LE(points.size() * 4, 4096u);
        for (size_t i = 5; i < n; i += 10) {
            const double lambda = static_cast<double>(points[i]) * law.upper_edge();
            // The density is steep at its edges, where a point has the accuracy of a float.
            const double density = law.density(lambda) * law.upper_edge();
            EXPECT_NEAR(points[n + i], density, 5e-3 * density + 1e-5) << i;
            EXPECT_NEAR(points[2 * n + i], law.cdf(lambda), 1e-5) << i;
        }
    };
    expect_curve(grid(0, "product", false)["law"], ProductLaw({24, 24, 24}, 1));
    expect_curve(grid(0, "product", true)["law"], ProductLaw({24, 8, 24}, 1));
    expect_curve(grid(0, "mp", false)["law"], ProductLaw({24, 24}, 1));
    for (const char* null : {"product", "mp"})
        for (const bool per_head : {false, true})
            EXPECT_EQ(grid(0, null, per_head)["law"], grid(2, null, per_head)["law"]);
    const auto sum = grid(1, "product", true);
    EXPECT_FALSE(sum.contains("law"));
    const std::vector<float> indices = floats_of(payload, sum["lawByRecord"]);
    ASSERT_GE(indices.size(), 4u * 2 * 3);
    for (size_t step = 0; step < 4; ++step) {
        const double ratio = (1 + sum["steps"][step].get<double>() / 10) / 0.5;
        const double rounded = std::exp(std::round(std::log(ratio) * 32) / 32);
        for (size_t record = 0; record < 6; ++record)
            EXPECT_EQ(indices[step * 6 + record], indices[step * 6]);
        expect_curve(static_cast<size_t>(indices[step * 6]),
                     ProductSumLaw({{{24, 4, 24}, 1}, {{24, 4, 24}, rounded}}));
    }
}

TEST(ReportPayload, HasNoLawForChainsThatAreNone) {
    MetricGrid grid{"qk", "product", false, {}, {0}, {0}, {-1}, {}, {}, {}};
    LawCurves laws;
    const auto has_law = [&](std::vector<std::vector<int64_t>> chains, std::vector<float> variances) {
        grid.chains = std::move(chains);
        grid.variances.clear();
        for (const float variance : variances) grid.variances.push_back({variance});
        const GridLaws own = laws.add(grid);
        return own.shared || (!own.by_record.empty() && !std::isnan(own.by_record[0]));
    };
    EXPECT_TRUE(has_law({{8, 4, 8}}, {}));
    EXPECT_TRUE(has_law({{8, 4, 8}, {8, 2, 8}}, {1, 2}));
    EXPECT_FALSE(has_law({}, {}));
    for (const std::vector<int64_t>& dims : {std::vector<int64_t>{}, {8}, {8, 0}, {-8, 8}, {8, INT64_MAX}})
        EXPECT_FALSE(has_law({dims}, {}));
    EXPECT_FALSE(has_law({{8, 4, 8}, {8, 2, 9}}, {1, 2}));
    for (const float variance : {0.0f, -1.0f, NAN, INFINITY, 1e30f})
        EXPECT_FALSE(has_law({{8, 4, 8}, {8, 2, 8}}, {1, variance})) << variance;
}

TEST(ReportPayload, BoundsTheNumberOfLaws) {
    MetricGrid grid{"qk", "product", false, {{16, 4, 16}, {16, 2, 16}}, {}, {0}, {-1}, {}, {{}, {}}, {}};
    for (int step = 0; step < 2000; ++step) {
        grid.steps.push_back(step);
        grid.variances[0].push_back(1);
        grid.variances[1].push_back(static_cast<float>(std::exp((step - 1000) / 50.0)));
    }
    LawCurves laws;
    laws.add(grid);
    EXPECT_LE(laws.curves().size(), 257u);
    EXPECT_GE(laws.curves().size(), 200u);
}

/// The inverse of pack_spectra(), as in tools/report/data.js.
std::vector<double> unpack_spectra(const std::string& bytes, int64_t n) {
    std::vector<double> values;
    for (size_t at = 0; at < bytes.size();) {
        float largest = 0;
        std::memcpy(&largest, bytes.data() + at, 4);
        at += 4;
        int64_t level = 65535;
        for (int64_t i = 0; i < n; ++i) {
            if (i > 0 && !std::isnan(largest)) {
                int64_t distance = 0;
                for (int shift = 0;; shift += 7) {
                    const auto byte = static_cast<unsigned char>(bytes.at(at++));
                    distance |= int64_t{byte & 127} << shift;
                    if (byte < 128) break;
                }
                level -= distance;
            }
            values.push_back(level == 0 ? 0 : largest * std::exp((level / 65535.0 - 1) * std::log(1e12)));
        }
    }
    return values;
}
TEST(ReportPayload, PacksSpectraWithinTheirPrecision) {
    const double nan = NAN;
    const std::vector<double> values = {1e9, 3.3,    1e-2,  1e-5,   // falls below 1e-12 of the largest
                                        4,   2,      2,     0,      // equal ones, and zero
                                        1,   -1e-18, 0.999, 1e-11,  // unsorted, and negative by rounding
                                        1,   nan,    1,     1,     0, 0, 0, 0};
    const std::vector<double> back = unpack_spectra(pack_spectra(values, 4), 4);
    const std::vector<double> expected = {1e9,   3.3, 1e-2, 0,   4,   2,   2, 0, 1, 0.999,
                                          1e-11, 0,   nan,  nan, nan, nan, 0, 0, 0, 0};
    ASSERT_EQ(back.size(), expected.size());
    for (size_t i = 0; i < back.size(); ++i) {
        if (std::isnan(expected[i]))
            EXPECT_TRUE(std::isnan(back[i])) << i;
        else
            EXPECT_NEAR(back[i], expected[i], 2.2e-4 * expected[i]) << i;
    }
}

TEST(ReportPayload, EncodesBase64AsTheStandardDoes) {
    const auto encode = [](std::string_view text) { return base64(std::as_bytes(std::span(text))); };
    EXPECT_EQ(encode(""), "");
    EXPECT_EQ(encode("f"), "Zg==");
    EXPECT_EQ(encode("fo"), "Zm8=");
    EXPECT_EQ(encode("foo"), "Zm9v");
    EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
    EXPECT_EQ(encode("\xff\xfe"), "//4=");
}

TEST(ReportPayload, ThinsACurveWithoutLosingItsSpike) {
    Table table{{"step", "loss"}, {{}, {}}};
    for (int i = 0; i < 10'000; ++i) {
        table.columns[0].push_back(i);
        table.columns[1].push_back(i == 7'321 ? 50 : i == 17 ? NAN : 3 - i * 1e-4);
    }
    const Table thin = thin_table(table, "loss", 100);
    EXPECT_LE(thin.rows(), 102u);
    EXPECT_EQ(thin["step"].front(), 0);
    EXPECT_EQ(thin["step"].back(), 9'999);
    EXPECT_EQ(*std::max_element(thin["loss"].begin(), thin["loss"].end()), 50);
    EXPECT_TRUE(std::is_sorted(thin["step"].begin(), thin["step"].end()));
    EXPECT_EQ(thin_table(table, "loss", 10'000).rows(), 10'000u);
}

TEST(ReportPayload, SpreadsStepsFromTheFirstToTheLast) {
    const std::vector<int64_t> steps = {0, 10, 20, 50, 100, 200};
    EXPECT_EQ(spread(steps, 9), steps);
    EXPECT_EQ(spread(steps, 2), (std::vector<int64_t>{0, 200}));
    EXPECT_EQ(spread(steps, 3), (std::vector<int64_t>{0, 20, 200}));
    EXPECT_EQ(spread(steps, 1), (std::vector<int64_t>{200}));
    EXPECT_TRUE(spread(steps, 0).empty());
}

}  // namespace
}  // namespace pastur
