// The data of the page of `pastur report`: eigenvalues, laws, curves and steps.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "diag/product_law.h"
#include "diag/product_sum_law.h"
#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_laws.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/report/report_spectra.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::SampleRun;
using test::write_sample_run;

constexpr size_t kRoom = 4'000'000;

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
