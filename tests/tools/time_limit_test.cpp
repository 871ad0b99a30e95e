// Lengths of time as people and Slurm write them.
#include "tools/pastur/time_limit.h"

#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

TEST(TimeLimit, UnderstandsUnitsAndClocks) {
    const std::pair<const char*, double> cases[] = {
        {"1800", 1800},    {"0.5", 0.5},          {"90s", 90},           {"30m", 1800},
        {"30min", 1800},   {"1h30m", 5400},       {"1.5h", 5400},        {"2d", 172800},
        {"1d12h", 129600}, {"1h0m1s", 3601},      {"30:00", 1800},       {"00:30:00", 1800},
        {"1:02:03", 3723}, {"100:00:00", 360000}, {"1-12:00:00", 129600}};
    for (const auto& [text, seconds] : cases) EXPECT_DOUBLE_EQ(parse_time_limit(text, ""), seconds) << text;
}

TEST(TimeLimit, RefusesEverythingElse) {
    for (const char* text :
         {"",     "0",   "0h",     "00:00",  "-5",      "-1h",       "30x",   "m",    "1h30",    "30m1h",
          "1h1h", "1 h", "1h 30m", "1e3",    "nan",     "inf",       "0x10",  "1:99", "1:2:3:4", ":30",
          "30:",  "::",  "1:-2",   "1.5:00", "1-30:00", "x-1:00:00", "4000d", "1,5h"})
        expect_error(ExitCode::kUsage,
                     {std::string("--max-time ") + text + ": expected a time", "1h30m", "00:30:00"},
                     [&] { parse_time_limit(text, std::string("--max-time ") + text); });
}

}  // namespace
}  // namespace pastur::test
