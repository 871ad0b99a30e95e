// --profile-steps and the ranges that profilers show.
#include "engine/train/step_profile.h"

#include <algorithm>
#include <sstream>

#include "tests/support/expect_error.h"
#include "tests/support/ranks.h"

namespace pastur::test {
namespace {

class Profiles : public SmallRuns {
  protected:
    Result train(const std::string& arguments, const std::string& environment = "") const {
        return run("train " + arguments + " --device cpu", "OMP_NUM_THREADS=1 " + environment);
    }
};

TEST(StepRange, IsTwoNumbers) {
    EXPECT_EQ(parse_step_range("10:12"), (std::pair<int64_t, int64_t>(10, 12)));
    for (const char* text :
         {"", "10", ":", "10:", ":12", "1:2:3", "1:2x", "a:b", "1 :2", "99999999999999999999:1"})
        expect_error(ExitCode::kUsage, {text, "FIRST:LAST"}, [&] { parse_step_range(text); });
}

TEST_F(Profiles, TimeTheOpsOfTheirStepsAndChangeNoBit) {
    ASSERT_EQ(train("r.toml --run plain").code, 0);
    const Result profiled = train("r.toml --run run --profile-steps 2:4");
    ASSERT_EQ(profiled.code, 0) << profiled.err;
    EXPECT_EQ(weights("run"), weights("plain"));
    EXPECT_EQ(losses("run"), losses("plain"));
    EXPECT_NE(profiled.out.find("times ops in steps 2 to 4; a CPU has no CUDA profiler"), std::string::npos)
        << profiled.out;
    const std::string table = read_file(file("run/profile.txt"), 1 << 20);
    EXPECT_NE(profiled.out.find(table), std::string::npos);
    EXPECT_EQ(table.rfind("steps 2 to 4: ", 0), 0u) << table;
    double total = 0, shown = 0;
    std::istringstream lines(table);
    std::string line;
    std::getline(lines, line);
    std::sscanf(line.c_str(), "steps 2 to 4: %lf ms", &shown);
    std::getline(lines, line);  // names of columns
    std::set<std::string> families;
    while (std::getline(lines, line)) {
        const std::string name = line.substr(0, line.find("  "));
        families.insert(name);
        double calls = 0, ms = 0;
        if (name == "between ops") {
            EXPECT_EQ(std::sscanf(line.c_str() + 20, "%lf", &ms), 1) << line;
        } else {
            EXPECT_EQ(std::sscanf(line.c_str() + 20, "%lf %lf", &calls, &ms), 2) << line;
        }
        if (name == "adamw") {
            EXPECT_EQ(calls, 2) << "per step: with and without decay";
        }
        total += ms;
    }
    EXPECT_NEAR(total, shown, 0.01);
    for (const char* name : {"matmul forward", "attention backward", "lm head", "adamw", "between ops"})
        EXPECT_TRUE(families.contains(name)) << name << " in " << table;
    // A run that is resumed after these steps has none of them left.
    EXPECT_EQ(train("run --resume --train.steps=6 --profile-steps 2:4").code, 0);
}

TEST_F(Profiles, AreOfStepsThatTheRunHas) {
    for (const char* steps : {"0:2", "4:2", "2:7"})
        expect_failure(std::string("train r.toml --run run --device cpu --profile-steps ") + steps, 2,
                       {steps, "expected two of the steps 1 to 6"});
    expect_failure("train r.toml --run run --device cpu --profile-steps 3", 2, {"FIRST:LAST"});
}

TEST_F(Profiles, RangesNestByStepPassAndLayer) {
    const fs::path profiler = binary().parent_path() / "libpastur_fake_profiler.so";
    if (!fs::exists(profiler)) GTEST_SKIP() << "built without NVTX's headers";
    const Result result = train(
        "r.toml --run run --train.steps=1 --train.warmup_steps=0 --train.micro_batch=8 --train.val_every=0 "
        "--diagnostics.every=0",
        "NVTX_INJECTION64_PATH='" + profiler.string() + "' PASTUR_FAKE_TRACE='" + file("trace") + "'");
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string trace = read_file(file("trace"), 1 << 20);
    const std::string step =
        "step\n"
        "  data\n"
        "  micro-batch\n"
        "    forward\n"
        "      layer 0\n"
        "      layer 1\n"
        "      layer 2\n"
        "    lm head\n"
        "    backward\n"
        "      layer 2\n"
        "      layer 1\n"
        "      layer 0\n"
        "  comm: losses\n"
        "  optimizer\n";
    EXPECT_NE(trace.find(step), std::string::npos) << trace;
    EXPECT_NE(trace.find("\ncheckpoint\n"), std::string::npos) << trace;
    EXPECT_EQ(trace.find("a range ends"), std::string::npos) << trace;
    EXPECT_EQ(trace.rfind("diagnostics\nvalidation\n", 0), 0u) << "of step 0";
}

}  // namespace
}  // namespace pastur::test
