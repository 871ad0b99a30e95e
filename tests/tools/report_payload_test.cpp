// The data of the page of `pastur report`: eigenvalues, laws, curves and steps.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "diag/product_law.h"
#include "diag/product_sum_law.h"
#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/report_blobs.h"
#include "tools/pastur/report/report_laws.h"
#include "tools/pastur/report/report_onsets.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/report/report_probe.h"
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

/// The bytes of one of the payload's base64 blobs.
std::string bytes_of(const nlohmann::ordered_json& payload, const nlohmann::ordered_json& index) {
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
    return bytes;
}
std::vector<float> floats_of(const nlohmann::ordered_json& payload, const nlohmann::ordered_json& index) {
    const std::string bytes = bytes_of(payload, index);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
}

/// The inverse of pack_numbers(), as in tools/report/data.js. Base64 may leave up to two bytes at the end.
std::vector<double> unpack_numbers(const std::string& bytes, size_t count) {
    float a = 0, b = 0;
    std::memcpy(&a, bytes.data() + 1, 4);
    std::memcpy(&b, bytes.data() + 5, 4);
    std::vector<double> values;
    for (size_t i = 0; i < count; ++i) {
        if (bytes[0] == 0) {
            values.push_back(double{a});
            continue;
        }
        const int code = static_cast<unsigned char>(bytes.at(9 + 2 * i)) |
                         static_cast<unsigned char>(bytes.at(10 + 2 * i)) << 8;
        const double t = code / 65533.0;
        values.push_back(code == 65535   ? NAN
                         : bytes[0] == 1 ? double{a} + t * (double{b} - double{a})
                         : code == 65534 ? 0
                                         : double{a} * std::pow(double{b} / double{a}, t));
    }
    return values;
}
std::vector<double> numbers_of(const nlohmann::ordered_json& payload, const nlohmann::ordered_json& index,
                               size_t count) {
    return unpack_numbers(bytes_of(payload, index), count);
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
    std::vector<double> indices = numbers_of(payload, sum["lawByRecord"], 4u * 2 * 3);
    for (double& index : indices) index = std::round(index);
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

TEST(ReportPayload, PacksNumbersWithinTheirPrecision) {
    const auto back = [](const std::vector<float>& values) {
        return unpack_numbers(pack_numbers(values), values.size());
    };
    const std::vector<float> wide = {1e-6f, 0.0f, 3.25f, 7e5f, NAN, INFINITY, 1e-6f};
    const std::vector<double> decoded = back(wide);
    for (size_t i = 0; i < wide.size(); ++i) {
        const auto value = double{wide[i]};
        if (std::isfinite(value))
            EXPECT_NEAR(decoded[i], value, 2.2e-4 * value) << i;
        else
            EXPECT_TRUE(std::isnan(decoded[i])) << i;
    }
    const std::vector<float> signs = {-2, 0, 1, 3};
    for (size_t i = 0; i < signs.size(); ++i) EXPECT_NEAR(back(signs)[i], double{signs[i]}, 5.0 / 65533) << i;
    for (const size_t count : {size_t{1}, size_t{5}, size_t{300}}) {
        EXPECT_EQ(pack_numbers(std::vector<float>(count, 7)).size(), 9u);
        EXPECT_EQ(back(std::vector<float>(count, 7)), std::vector<double>(count, 7));
    }
    EXPECT_TRUE(std::isnan(back({NAN, NAN})[1]));
    EXPECT_NEAR(back({NAN, 4})[1], 4, 1e-12);
    std::vector<float> steps;  // indices of onsets and laws are exact
    for (int i = 0; i < 1000; ++i) steps.push_back(static_cast<float>(i));
    for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(std::round(back(steps)[i]), double{steps[i]});
    const std::string packed = pack_numbers(wide);
    EXPECT_LE(base64(std::as_bytes(std::span(packed))).size() + 3, packed_size(wide.size()));
}

TEST(ReportPayload, HoldsOnsetsByThreshold) {
    Onsets onsets;
    const auto add = [&](const char* kind, const char* matrix, int layer, int head, double threshold,
                         int onset) {
        onsets.add({{"event", kind},
                    {"step", onset + 5},
                    {"onset", onset},
                    {"layer", layer},
                    {"head", head},
                    {"matrix", matrix},
                    {"null", "product"},
                    {"threshold", threshold}});
    };
    EXPECT_TRUE(onsets.empty());
    add("spike", "qk", 0, -1, 2, 10);
    add("spike", "qk", 3, 1, 2, 40);
    add("spike", "qk", 3, 1, 10, 80);
    add("collapse", "qk", 0, -1, 0.5, 20);
    add("spike", "qk@0,0", 0, 0, 2, 10);        // a single pair of positions is not on the page
    add("spike", "layers.0.wq", 0, -1, 2, 10);  // nor a single weight
    onsets.add(
        {{"event", "spike"}, {"step", 7}, {"layer", 1}, {"head", -1}, {"matrix", "qk"}});  // a former version
    onsets.add({{"event", "spike"}, {"step", "x"}, {"layer", -5}, {"matrix", 3}});         // damaged
    Blobs blobs;
    const auto list = onsets.json(blobs);
    ASSERT_EQ(list.size(), 4u);
    EXPECT_EQ(list[0]["kind"], "collapse");
    EXPECT_EQ(list[0]["null"], "") << "no null affects a collapse";
    const auto& spike = list[2];
    EXPECT_EQ(spike["threshold"], 2);
    EXPECT_EQ(spike["steps"], (std::vector<int>{10, 40}));
    EXPECT_EQ(spike["layers"], (std::vector<int>{0, 3}));
    EXPECT_EQ(spike["heads"], (std::vector<int>{-1, 1}));
    const auto indices = numbers_of({{"blobs", blobs.json()}}, spike["blob"], 4);
    EXPECT_EQ(indices[0], 0);
    EXPECT_TRUE(std::isnan(indices[1]));
    EXPECT_EQ(indices[3], 1);
    EXPECT_EQ(list[1]["threshold"], 0);
    EXPECT_EQ(list[1]["steps"], std::vector<int>{7});
}

TEST(ReportPayload, HoldsWhatTheProbeSaw) {
    const test::TempFolder folder;
    write_sample_run(folder.path(), {.probed = true});
    std::ofstream(folder.path() / "spectra/latents.jsonl", std::ios::app) << "{\"step\": 40, \"layer\"\n[]\n";
    std::vector<std::string> notes;
    const std::vector<MetricGrid> grids = read_probe_grids(folder.path() / "spectra", notes);
    ASSERT_EQ(grids.size(), 2u);
    EXPECT_EQ(grids[0].matrix, "logits");
    EXPECT_EQ(grids[0].steps, (std::vector<int64_t>{0, 10, 20, 40}));
    // sample_run.cpp: the largest logit is 1 + step + 10 layer + head; the second of three heads has the least ratio.
    EXPECT_EQ(grids[0].metrics.at("max_logit")[2 * 2 + 1], 1 + 20 + 10 + 2);
    EXPECT_EQ(grids[0].metrics.at("least_entropy_ratio")[0], 0.5f);
    EXPECT_NEAR(grids[0].metrics.at("entropy_ratio")[0], (0.75 + 0.5 + 0.75) / 3, 1e-6);
    EXPECT_FALSE(grids[0].metrics.contains("content_share")) << "no head is split";
    EXPECT_EQ(grids[1].matrix, "residual");
    EXPECT_EQ(grids[1].metrics.at("entropy_rank")[0], 20);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_NE(notes[0].find("latents.jsonl: 2 lines"), std::string::npos) << notes[0];
    const auto payload = report_payload({folder.path()}, kRoom);
    EXPECT_EQ(payload["runs"][0]["probes"].size(), 2u);
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
