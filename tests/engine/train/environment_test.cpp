// env.json, and the differences that a resume on a changed machine reports.
#include "engine/train/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

using nlohmann::json;

TEST(Environment, DescribesThisProcess) {
    ::setenv("NCCL_PASTUR_TEST", "a\xff", 1);
    Context ctx = CpuContext(3);
    const json env = describe_environment(ctx, 2);
    EXPECT_EQ(env.at("version"), version());
    EXPECT_EQ(env.at("git_revision"), git_revision());
    EXPECT_EQ(env.at("backend"), "cpu");
    EXPECT_EQ(env.at("threads"), 3);
    EXPECT_EQ(env.at("ranks"), 2);
    EXPECT_EQ(env.at("variables").at("NCCL_PASTUR_TEST"), "a\xff");
    EXPECT_NE(env.at("libraries").at("openblas").get<std::string>().find("OpenBLAS"), std::string::npos);
    const test::TempFolder folder;
    write_environment(folder.path() / "env.json", env);  // a byte that is not UTF-8 must not break the file
    const json read = read_environment(folder.path() / "env.json");
    ::unsetenv("NCCL_PASTUR_TEST");
    EXPECT_EQ(read.at("libraries"), env.at("libraries"));
    EXPECT_EQ(read.at("device"), env.at("device"));
}

TEST(Environment, NamesEveryDifferenceThatMatters) {
    const json old = {{"version", "1"},
                      {"host", "a"},
                      {"device", "H100"},
                      {"ranks", 1},
                      {"threads", 4},
                      {"libraries", {{"mpi", "4.1"}, {"nccl", "2.1"}}},
                      {"variables", json::object()}};
    EXPECT_TRUE(compare_environments(old, old).empty());
    json now = old;
    now["host"] = "b";
    EXPECT_TRUE(compare_environments(old, now).empty());
    now["device"] = "H200";
    now["ranks"] = 2;
    now["libraries"].erase("mpi");
    now["libraries"]["nccl"] = "2.2";
    now["variables"]["NCCL_ALGO"] = "Ring";
    EXPECT_EQ(compare_environments(old, now),
              (std::vector<std::string>{"device: was \"H100\", is \"H200\"", "ranks: was 1, is 2",
                                        "libraries mpi: was \"4.1\", is absent",
                                        "libraries nccl: was \"2.1\", is \"2.2\"",
                                        "variables NCCL_ALGO: was absent, is \"Ring\""}));
    EXPECT_EQ(compare_environments(json(), old).size(), 6u);  // an empty or foreign file
}

TEST(Environment, RefusesADamagedFile) {
    const test::TempFolder folder;
    const auto path = folder.path() / "env.json";
    test::expect_error(ExitCode::kMissingInput, {"env.json"}, [&] { read_environment(path); });
    for (const char* text : {"", "[]", "{\"a\":"}) {
        std::ofstream(path) << text;
        test::expect_error(ExitCode::kCorruptData, {"env.json: expected"}, [&] { read_environment(path); });
    }
}

}  // namespace
}  // namespace pastur
