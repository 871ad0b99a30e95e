// The mean over pairs of positions, by layer, head and null.
#include "engine/spectra/position_means.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pastur {
namespace {

SpectrumRecord record_of(const char* matrix, int64_t head, const char* null, double value) {
    SpectrumRecord record;
    record.layer = 0;
    record.head = head;
    record.matrix = matrix;
    record.null = null;
    for (const MetricField& field : kMetricFields) record.metrics.*field.value = value;
    return record;
}

TEST(PositionMeans, AverageEveryMetricOfTheSameHeadAndNull) {
    std::vector<SpectrumRecord> records;
    for (const char* matrix : {"qk", "qk@0,0", "qk@7,0"})
        for (const int64_t head : {0, 1})
            for (const char* null : {"product", "mp"})
                records.push_back(record_of(matrix, head, null,
                                            (matrix[2] == 0     ? 1000
                                             : matrix[3] == '0' ? 1
                                                                : 4) +
                                                static_cast<double>(10 * head) + (null[0] == 'm' ? 100 : 0)));
    records[4].kept_null = 0.5;
    records[8].kept_null = 0.25;
    records[9].flags = {"zero"};
    records[11].metrics.ks = std::nan("");
    const size_t before = records.size();
    append_position_means(records);
    ASSERT_EQ(records.size(), before + 4);
    for (size_t i = 0; i < 4; ++i) {
        const SpectrumRecord& mean = records[before + i];
        EXPECT_EQ(mean.matrix, "qk@mean");
        EXPECT_EQ(mean.head, i / 2);
        EXPECT_EQ(mean.null, i % 2 == 0 ? "product" : "mp");
        EXPECT_EQ(mean.metrics.lambda_max, 2.5 + static_cast<double>(10 * (i / 2) + 100 * (i % 2)));
    }
    EXPECT_EQ(records[before].kept_null, 0.375);
    EXPECT_EQ(records[before + 1].flags, std::vector<std::string>{"zero"});
    EXPECT_TRUE(std::isnan(records[before + 3].metrics.ks));
    std::vector<SpectrumRecord> none = {record_of("qk", 0, "mp", 1)};
    append_position_means(none);
    EXPECT_EQ(none.size(), 1u);
}

}  // namespace
}  // namespace pastur
