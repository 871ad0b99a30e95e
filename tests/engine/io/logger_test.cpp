// metrics.jsonl and the progress line.
#include "engine/io/logger.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

class Metrics : public testing::Test {
  protected:
    fs::path file() const { return folder_.path() / "metrics.jsonl"; }
    fs::path abandoned() const { return folder_.path() / "metrics.abandoned.jsonl"; }
    static std::vector<std::string> lines(const fs::path& path) {
        std::vector<std::string> all;
        std::ifstream in(path);
        for (std::string line; std::getline(in, line);) all.push_back(line);
        return all;
    }
    test::TempFolder folder_;
};

TEST(MetricsLine, PutsTheVersionFirstAndKeepsTheOrder) {
    EXPECT_EQ(metrics_line({{"event", "train"}, {"step", 3}, {"loss", 0.1}, {"lr", 1e-3}, {"a", nullptr}}),
              R"({"v":1,"event":"train","step":3,"loss":0.1,"lr":0.001,"a":null})");
}

TEST(MetricsLine, FloatsReadBackEqual) {
    for (const double x :
         {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, -0.0, 123456789.123456789, 2.5e-7}) {
        const json line = json::parse(metrics_line({{"x", x}}));
        EXPECT_EQ(line["x"].get<double>(), x);
        EXPECT_EQ(std::signbit(line["x"].get<double>()), std::signbit(x));
    }
    EXPECT_EQ(metrics_line({{"x", 0.30000000000000004}}), R"({"v":1,"x":0.30000000000000004})");
}

TEST(MetricsLine, NonFiniteNumbersAreNullAndNamed) {
    const double inf = std::numeric_limits<double>::infinity();
    EXPECT_EQ(
        metrics_line({{"loss", std::nan("")}, {"lr", 1.0}, {"norms", {1.0, inf}}, {"o", {{"p", -inf}}}}),
        R"({"v":1,"loss":null,"lr":1.0,"norms":[1.0,null],"o":{"p":null},"nonfinite":["loss","norms.1","o.p"]})");
}

TEST(MetricsLine, IsOneLineWhateverTextHolds) {
    const std::string line = metrics_line({{"text", "a\nb\xff"}});
    EXPECT_EQ(line.find('\n'), std::string::npos);
    EXPECT_TRUE(json::accept(line));
}

TEST_F(Metrics, AppendsAcrossRuns) {
    { MetricsLog(file()).write({{"step", 1}}); }
    MetricsLog log(file());
    log.write({{"step", 2}});
    log.write({{"step", 3}});
    EXPECT_EQ(lines(file()), (std::vector<std::string>{R"({"v":1,"step":1})", R"({"v":1,"step":2})",
                                                       R"({"v":1,"step":3})"}));
}

TEST_F(Metrics, EndsALineThatWasCut) {
    std::ofstream(file()) << "{\"v\":1,\"step\":1}\n{\"v\":1,\"st";
    MetricsLog(file()).write({{"step", 2}});
    EXPECT_EQ(lines(file()),
              (std::vector<std::string>{R"({"v":1,"step":1})", R"({"v":1,"st)", R"({"v":1,"step":2})"}));
}

TEST_F(Metrics, AFailedWriteIsAnIoError) {
    test::expect_error(ExitCode::kIo, {"cannot write /dev/full", "No space left"}, [] {
        MetricsLog("/dev/full").write({{"step", 1}});
    });
    test::expect_error(ExitCode::kIo, {"no-such-folder"},
                       [&] { MetricsLog log(folder_.path() / "no-such-folder" / "m"); });
}

TEST_F(Metrics, ResumeMovesLaterLinesAway) {
    EXPECT_EQ(truncate_after(file(), 10), 0);
    EXPECT_FALSE(fs::exists(file()));
    std::ofstream(file()) << R"({"v":1,"event":"start","step":0})"
                             "\n"
                             R"({"v":1,"step":10})"
                             "\n"
                          << R"({"v":1,"step":20})"
                             "\n"
                             "not json\n"
                             R"({"v":1,"event":"note"})"
                             "\n"
                          << R"({"v":1,"step":"30"})"
                             "\n"
                             R"({"v":1,"step":30})"
                             "\n"
                             R"({"v":1,"ste)";
    EXPECT_EQ(truncate_after(file(), 10), 2);
    EXPECT_EQ(lines(file()),
              (std::vector<std::string>{R"({"v":1,"event":"start","step":0})", R"({"v":1,"step":10})",
                                        "not json", R"({"v":1,"event":"note"})", R"({"v":1,"step":"30"})"}));
    EXPECT_EQ(lines(abandoned()), (std::vector<std::string>{R"({"v":1,"step":20})", R"({"v":1,"step":30})"}));
    MetricsLog(file()).write({{"step", 15}});
    EXPECT_EQ(truncate_after(file(), 10), 1);  // added to what was abandoned before
    EXPECT_EQ(lines(abandoned()).size(), 3u);
    EXPECT_EQ(truncate_after(file(), 10), 0);
    EXPECT_EQ(lines(file()).size(), 5u);
}

TEST(Progress, FormatsALine) {
    Progress::Status status{
        .step = 120, .loss = 5.43211, .lr = 1e-3, .tokens_per_s = 415234, .mfu = 0.413, .step_seconds = 2};
    EXPECT_EQ(format_progress(status, 2000),
              "step 120/2000  loss 5.4321  lr 1.0e-03  415.2 k tok/s  MFU 41.3 %  ETA 1:02:40");
    status = {.step = 2000, .loss = std::nan(""), .lr = 0, .tokens_per_s = 999};
    EXPECT_EQ(format_progress(status, 2000), "step 2000/2000  loss nan  lr 0.0e+00  999 tok/s  ETA 0:00:00");
    status.tokens_per_s = 2.5e6;
    status.step = 0;
    status.step_seconds = 1e300;
    EXPECT_EQ(format_progress(status, 2000),
              "step 0/2000  loss nan  lr 0.0e+00  2.50 M tok/s  ETA 1000:00:00");
}

/// What Progress prints to `out` in a short run.
void play(Console* out) {
    Progress progress(out, 3);
    progress.step({.step = 1, .loss = 3}, true);
    progress.message("a note");
    progress.step({.step = 2, .loss = 2}, false);
    progress.step({.step = 3, .loss = 1}, true);
}

TEST(Progress, PrintsPlainLinesOffATerminal) {
    const test::TempFolder folder;
    const fs::path path = folder.path() / "out";
    std::FILE* file = std::fopen(path.c_str(), "w");
    Console console(fileno(file));
    play(&console);
    std::fclose(file);
    std::ifstream in(path);
    const std::string all((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(all,
              "step 1/3  loss 3.0000  lr 0.0e+00  0 tok/s  ETA 0:00:00\n"
              "a note\n"
              "step 3/3  loss 1.0000  lr 0.0e+00  0 tok/s  ETA 0:00:00\n");
    play(nullptr);  // other ranks
}

TEST(Progress, RewritesItsLineOnATerminal) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0)
        GTEST_SKIP() << "no pseudo-terminal here";
    std::FILE* terminal = std::fopen(::ptsname(master), "w");
    ASSERT_NE(terminal, nullptr);
    Console console(fileno(terminal));
    play(&console);
    const std::string first = "step 1/3  loss 3.0000  lr 0.0e+00  0 tok/s  ETA 0:00:00";
    const std::string last = "step 3/3  loss 1.0000  lr 0.0e+00  0 tok/s  ETA 0:00:00";
    const std::string want = first + "\r\033[Ka note\r\n" + first + "\r\033[K" + last + "\r\n";
    std::string all;
    pollfd ready{master, POLLIN, 0};
    while (all.size() < want.size() && ::poll(&ready, 1, 5000) == 1) {  // the kernel hands it over in pieces
        std::array<char, 4096> piece;
        const ssize_t got = ::read(master, piece.data(), piece.size());
        ASSERT_GT(got, 0);
        all.append(piece.data(), static_cast<size_t>(got));
    }
    std::fclose(terminal);
    ::close(master);
    EXPECT_EQ(all, want);
}

}  // namespace
}  // namespace pastur
