// What a study keeps of a run for the page, and the page that is drawn of it alone.
#include "tools/pastur/report/page_record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/command_line.h"
#include "tests/support/expect_error.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using test::expect_error;
using test::write_sample_run;

class PageRecord : public test::CommandLine {
  protected:
    /// A run folder with config.toml and a record alone, made of a whole one, whose grids are returned.
    std::vector<MetricGrid> keep(const std::string& whole, const std::string& kept) const {
        RunRecord record;
        record.summary.name = kept;
        record.statistics.variant = "mha";
        std::vector<std::string> notes;
        const std::vector<MetricGrid> grids = read_metric_grids(folder(whole) / "spectra", notes);
        record.page = page_record(read_report_run(folder(whole)), grids);
        fs::create_directories(folder(kept));
        fs::copy_file(folder(whole) / "config.toml", folder(kept) / "config.toml");
        write_run_record(record_of(folder(kept)), record);
        return grids;
    }
    fs::path folder(const std::string& name) const { return file(name); }
    static const MetricGrid* find(const std::vector<MetricGrid>& grids, const MetricGrid& like) {
        for (const MetricGrid& grid : grids)
            if (grid.matrix == like.matrix && grid.null == like.null && !grid.per_head) return &grid;
        return nullptr;
    }
};

TEST_F(PageRecord, KeepsMapsOfLayersCurvesAndOnsets) {
    write_sample_run(file("whole"), {});
    const std::vector<MetricGrid> all = keep("whole", "kept");
    std::vector<MetricGrid> maps;
    const ReportRun run =
        read_recorded_run(folder("kept"), read_run_record(record_of(folder("kept"))).page, maps);
    ASSERT_EQ(maps.size(), 2u) << "two nulls, of layers alone";
    for (const MetricGrid& map : maps) {
        const MetricGrid* own = find(all, map);
        ASSERT_NE(own, nullptr);
        EXPECT_EQ(map.steps, own->steps);
        EXPECT_EQ(map.layers, own->layers);
        EXPECT_EQ(map.heads, std::vector<int64_t>{-1});
        EXPECT_EQ(map.flags, own->flags);
        for (const char* name : {"lambda_max", "stable_rank", "lambda_plus", "outlier_count"}) {
            const std::vector<float>&kept = map.metrics.at(name), &exact = own->metrics.at(name);
            ASSERT_EQ(kept.size(), exact.size());
            for (size_t i = 0; i < kept.size(); ++i)
                EXPECT_NEAR(kept[i], exact[i], 3e-4 * std::abs(exact[i])) << name << " " << i;
        }
    }
    const ReportRun whole = read_report_run(folder("whole"));
    EXPECT_EQ(run.name, "kept");
    EXPECT_EQ(run.config_text, whole.config_text);
    EXPECT_EQ(run.start, whole.start);
    EXPECT_EQ(run.end, whole.end);
    EXPECT_EQ(run.environment.at("device"), whole.environment.at("device"));
    EXPECT_FALSE(run.environment.contains("host")) << "a record says nothing about the machine's owner";
    EXPECT_EQ(run.train["step"], whole.train["step"]);
    EXPECT_EQ(run.train["tokens"], whole.train["tokens"]);
    for (size_t i = 0; i < whole.train.rows(); ++i)
        EXPECT_NEAR(run.train["loss"][i], whole.train["loss"][i], 5e-5 * whole.train["loss"][i]);
    EXPECT_EQ(run.val["step"], whole.val["step"]);
    EXPECT_EQ(run.onsets.of_layers(), whole.onsets.of_layers());
    EXPECT_FALSE(run.onsets.of_layers().empty());
    ASSERT_EQ(run.notes.size(), 1u);
}

TEST_F(PageRecord, LeavesOutStepsOfALongRunButNotTheLast) {
    std::vector<MetricGrid> grids(1);
    grids[0].matrix = "qk_rope";
    grids[0].null = "product";
    grids[0].heads = {-1};
    for (int64_t step = 0; step < 3000; ++step) grids[0].steps.push_back(10 * step);
    for (int64_t layer = 0; layer < 24; ++layer) grids[0].layers.push_back(layer);
    std::mt19937 random(3);
    std::uniform_real_distribution<float> number(1, 2);
    for (const char* name : {"lambda_max", "stable_rank", "sigma2"})
        for (size_t i = 0; i < 3000 * 24; ++i) grids[0].metrics[name].push_back(number(random));
    write_sample_run(file("whole"), {.measured = {}});
    const Json page = page_record(read_report_run(folder("whole")), grids);
    EXPECT_LE(page.at("blobs").dump().size(), kMaxMapBytes + 100);
    EXPECT_GE(page.at("blobs").dump().size(), kMaxMapBytes / 2);
    std::vector<MetricGrid> maps;
    fs::create_directories(folder("kept"));
    read_recorded_run(folder("kept"), page, maps);
    ASSERT_EQ(maps.size(), 1u);
    EXPECT_EQ(maps[0].steps.front(), 0);
    EXPECT_EQ(maps[0].steps.back(), 29990);
    EXPECT_FALSE(maps[0].metrics.contains("sigma2"));
    EXPECT_NEAR(maps[0].metrics.at("stable_rank").back(), grids[0].metrics.at("stable_rank").back(), 1e-4);
}

TEST_F(PageRecord, IsDrawnAsTheWholeRunIs) {
    write_sample_run(file("whole"), {.variant = "mla-decoupled"});
    keep("whole", "kept");
    const Json whole = report_payload({folder("whole")}, 4'000'000),
               kept = report_payload({folder("kept")}, 4'000'000);
    const Json &one = whole.at("runs").at(0), &other = kept.at("runs").at(0);
    EXPECT_EQ(other.at("metrics").size(), 2u);
    EXPECT_TRUE(other.at("spectra").empty());
    EXPECT_EQ(other.at("train").at("loss").size(), one.at("train").at("loss").size());
    EXPECT_EQ(one.at("onsets").size(), 2u);
    EXPECT_EQ(other.at("onsets").size(), 1u) << "the spike is that of a head";
    const test::Result result = run("report kept whole -o both.html");
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("2 runs"), std::string::npos);
    const test::Result compared = run("compare kept whole");
    EXPECT_EQ(compared.code, 0) << compared.err;
    EXPECT_NE(compared.out.find("kept"), std::string::npos) << compared.out;
}

TEST_F(PageRecord, ADamagedOneIsRefused) {
    write_sample_run(file("whole"), {});
    keep("whole", "kept");
    const Json good = Json::parse(read_file(record_of(folder("kept")), 1 << 24));
    const auto refused = [&](const std::string& pointer, const Json& value, const std::string& why) {
        Json bad = good;
        bad[Json::json_pointer(pointer)] = value;
        write("kept/statistics.json", bad.dump());
        expect_failure("report kept -o page.html", 65,
                       {"kept/statistics.json", "not the record of a run", why});
    };
    refused("/page/blobs/0", "AAA", "base64");
    refused("/page/blobs/0", "A%AA", "base64");
    refused("/page/blobs/0", "AAAA", "packed numbers");
    refused("/page/maps/0/steps", {0, 10, 10, 40}, "steps of a map do not ascend");
    refused("/page/maps/0/steps", {0, 10}, "packed numbers");
    refused("/page/maps/0/metrics/lambda_max", 99, "out of range");
    refused("/page/train/loss", {1, 2}, "column loss has 2 values");
    refused("/page/train/loss", nullptr, "column loss has 0 values");
    refused("/page/onsets", {{"spike", {{"qk", {{"mp", {{"2", {"x"}}}}}}}}}, "must be number");
    refused("/page/maps", 3, "");
    Json former = good;
    former.erase("page");
    write("kept/statistics.json", former.dump());
    expect_failure("report kept -o page.html", 66,
                   {"kept/statistics.json", "former version", "metrics.jsonl"});
}

TEST(PackedNumbers, ComeBackInEveryKind) {
    const float nan = NAN;
    const auto expect_back = [](const std::vector<float>& list, double relative, double absolute) {
        const std::string packed = pack_numbers(list);
        EXPECT_EQ(bytes_of_base64(base64(std::as_bytes(std::span(packed)))), packed);
        const std::vector<float> back = unpack_numbers(packed, list.size());
        ASSERT_EQ(back.size(), list.size());
        for (size_t i = 0; i < list.size(); ++i)
            if (std::isnan(list[i]))
                EXPECT_TRUE(std::isnan(back[i]));
            else
                EXPECT_NEAR(back[i], list[i], relative * std::abs(list[i]) + absolute);
    };
    expect_back({7, 7, 7}, 0, 0);
    expect_back({-1, 0, 3, nan}, 0, 4.0 / 65533);
    expect_back({0, 1e-3F, 1, 1e6F, nan}, 2.2e-4, 0);
    expect_back({nan, nan}, 0, 0);
    expect_back({nan, 5}, 0, 0);
    expect_back({}, 0, 0);
    expect_error(ExitCode::kCorruptData, {"0 bytes"}, [] { unpack_numbers("", 0); });
    expect_error(ExitCode::kCorruptData, {"packed numbers"}, [] { unpack_numbers(std::string(9, '\3'), 0); });
    expect_error(ExitCode::kCorruptData, {"base64"}, [] { bytes_of_base64("AB=C"); });
}

}  // namespace
}  // namespace pastur
