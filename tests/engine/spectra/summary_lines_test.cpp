// Lines of summary.jsonl: what does not depend on the null once, the form of former versions, and damaged lines.
#include "engine/spectra/summary_lines.h"

#include <gtest/gtest.h>

#include <limits>

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

SpectrumRecord record_of(const char* null, int64_t head) {
    SpectrumRecord record;
    record.layer = 1;
    record.head = head;
    record.matrix = "qk";
    record.null = null;
    record.n = 4;
    record.dims = {8, 4, 8};
    record.variance_product = 0.25;
    double value = null[0] == 'm' ? 100 : 200;
    for (const MetricField& field : kMetricFields)
        record.metrics.*field.value = field.by_null ? value++ : static_cast<double>(head);
    record.flags = {"rank_deficient"};
    record.kept_step0 = 0.5;
    return record;
}

/// Both nulls of two heads.
std::vector<SpectrumRecord> records() {
    std::vector<SpectrumRecord> list;
    for (const int64_t head : {0, 1})
        for (const char* null : {"mp", "product"}) list.push_back(record_of(null, head));
    list[0].flags.push_back("null_zero");
    list[0].metrics.ks = std::numeric_limits<double>::quiet_NaN();
    list[1].terms = {{"qk_content", {{8, 2, 8}, 0.5}}};
    list[1].kept_null = 0.75;
    return list;
}

void expect_equal(const SpectrumRecord& got, const SpectrumRecord& want) {
    EXPECT_EQ(got.layer, want.layer);
    EXPECT_EQ(got.head, want.head);
    EXPECT_EQ(got.matrix, want.matrix);
    EXPECT_EQ(got.null, want.null);
    EXPECT_EQ(got.n, want.n);
    EXPECT_EQ(got.dims, want.dims);
    EXPECT_EQ(got.variance_product, want.variance_product);
    EXPECT_EQ(got.terms, want.terms);
    EXPECT_EQ(got.flags, want.flags);
    EXPECT_EQ(got.kept_step0, want.kept_step0);
    EXPECT_EQ(got.kept_null, want.kept_null);
    for (const MetricField& field : kMetricFields) {
        const double a = got.metrics.*field.value, b = want.metrics.*field.value;
        EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << field.name << ": " << a << ", " << b;
    }
}

TEST(SummaryLines, HoldAMatrixWithAllItsNullsAndAreReadBack) {
    const std::vector<SpectrumRecord> written = records();
    const std::vector<Json> lines = summary_lines(written, 120);
    ASSERT_EQ(lines.size(), 2u);
    size_t i = 0;
    for (const Json& line : lines) {
        EXPECT_EQ(line.at("v"), 2);
        for (const MetricField& field : kMetricFields) {
            EXPECT_EQ(line.contains(field.name), !field.by_null) << field.name;
            for (const char* null : {"mp", "product"})
                EXPECT_EQ(line.at("nulls").at(null).contains(field.name), field.by_null) << field.name;
        }
        // As the file has it, where a number that is not finite is null.
        for (const LoggedRecord& read : read_records(Json::parse(line.dump()))) {
            EXPECT_EQ(read.step, 120);
            ASSERT_LT(i, written.size());
            expect_equal(read.record, written[i++]);
        }
    }
    EXPECT_EQ(i, written.size());
    EXPECT_EQ(lines[0].at("flag_meanings").size(), 2u);
    EXPECT_FALSE(summary_lines(written, {})[0].contains("step"));
}

TEST(SummaryLines, OfFormerVersionsAreRead) {
    const Json line = Json::parse(
        R"({"v":1,"step":120,"layer":1,"head":2,"matrix":"qk","null":"product","n":4,"dims":[8,4,8],)"
        R"("terms":[{"matrix":"qk_content","dims":[8,2,8],"variance_product":0.5}],"flags":["rank_deficient"],)"
        R"("lambda_max":1.5,"ks":null,"outliers_below":3.0,"kept_step0":0.5,"kept_null":0.75})");
    const std::vector<LoggedRecord> read = read_records(line);
    ASSERT_EQ(read.size(), 1u);
    const SpectrumRecord& record = read[0].record;
    EXPECT_EQ(record.null, "product");
    EXPECT_EQ(record.terms, records()[1].terms);
    EXPECT_EQ(record.metrics.lambda_max, 1.5);
    EXPECT_EQ(record.metrics.outliers_below, 3);
    EXPECT_TRUE(std::isnan(record.metrics.ks));
    EXPECT_EQ(record.kept_null, 0.75);
    const auto naive = read_records(Json::parse(
        R"({"v":1,"step":1,"layer":1,"head":2,"matrix":"qk","null":"mp","n":4,"rows":8,"cols":4})"));
    ASSERT_EQ(naive.size(), 1u);
    EXPECT_EQ(naive[0].record.dims, (std::vector<int64_t>{8, 4}));
}

TEST(SummaryLines, ThatAreDamagedHaveNoRecords) {
    const Json good = summary_lines(records(), 1)[0];
    for (const char* key : {"step", "layer", "head", "matrix", "nulls"}) {
        Json line = good;
        line[key] = Json::array({1});
        EXPECT_TRUE(read_records(line).empty()) << key;
        line.erase(key);
        EXPECT_TRUE(read_records(line).empty()) << key;
    }
    EXPECT_TRUE(read_records(nullptr).empty());
    EXPECT_TRUE(read_records(Json::array()).empty());
    Json odd = good;
    for (const char* key : {"dims", "flags", "n", "lambda_max", "kept_step0"}) {
        odd[key] = {{"not", "expected"}};
        EXPECT_EQ(read_records(odd).size(), 2u) << key;
        odd[key] = Json::array({"x", {{"matrix", 1}}, 2});
        EXPECT_EQ(read_records(odd).size(), 2u) << key;
    }
    odd["nulls"]["mp"] = {{"terms", {1, {{"matrix", 2}}}}, {"flags", {1, "x"}}};
    EXPECT_EQ(read_records(odd).size(), 2u);
    for (int i = 0; i < 1000; ++i) odd["nulls"][std::to_string(i)] = Json::object();
    EXPECT_EQ(read_records(odd).size(), static_cast<size_t>(kMostNullsOfLine));
}

}  // namespace
}  // namespace pastur
