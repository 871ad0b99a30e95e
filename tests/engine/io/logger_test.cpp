// metrics.jsonl and the console lines of a run.
#include "engine/io/logger.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>
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
    EXPECT_EQ(truncate_after(file(), 10), 1);  // appended to the lines abandoned before
    EXPECT_EQ(lines(abandoned()).size(), 3u);
    EXPECT_EQ(truncate_after(file(), 10), 0);
    EXPECT_EQ(lines(file()).size(), 5u);
}

TEST_F(Metrics, OnlyARegularFileIsReadAndContinued) {
    ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
    test::expect_error(ExitCode::kIo, {"metrics.jsonl", "not a regular file"},
                       [&] { truncate_after(file(), 1); });
    fs::remove(file());
    std::ofstream(folder_.path() / "victim") << "{\"step\":5}\n";
    fs::create_symlink("victim", file());
    test::expect_error(ExitCode::kIo, {"metrics.jsonl", "not a regular file"},
                       [&] { truncate_after(file(), 1); });
    test::expect_error(ExitCode::kIo, {"metrics.jsonl"}, [&] { MetricsLog{file()}; });
    EXPECT_EQ(lines(folder_.path() / "victim"), std::vector<std::string>{"{\"step\":5}"});
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

/// The lines that a terminal shows, which wraps and obeys \r, \n and "erase to the end of the line".
class Screen {
  public:
    explicit Screen(size_t columns) : columns_(columns), rows_(1) {}
    void feed(const std::string& bytes) {
        for (size_t i = 0; i < bytes.size(); ++i) {
            std::string& row = rows_.back();
            if (bytes[i] == '\r') {
                column_ = 0;
            } else if (bytes[i] == '\n') {
                rows_.emplace_back();
            } else if (bytes.compare(i, 3, "\033[K") == 0) {
                row.resize(std::min(row.size(), column_));
                i += 2;
            } else {
                if (column_ == columns_) {
                    rows_.emplace_back();
                    column_ = 0;
                }
                rows_.back().resize(std::max(rows_.back().size(), column_ + 1), ' ');
                rows_.back()[column_++] = bytes[i];
            }
        }
    }
    const std::vector<std::string>& rows() const { return rows_; }

  private:
    size_t columns_, column_ = 0;
    std::vector<std::string> rows_;
};

/// A pseudo-terminal and what is written to it.
class Terminal {
  public:
    explicit Terminal(unsigned short columns)
        : columns_(columns), master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
        if (!master_ || ::grantpt(master_.get()) != 0 || ::unlockpt(master_.get()) != 0)
            throw std::runtime_error("no pseudo-terminal");
        slave_.reset(::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY));
        const winsize size{24, columns, 0, 0};
        ::ioctl(slave_.get(), TIOCSWINSZ, &size);
        ::setenv("TERM", "xterm", 1);
    }
    int descriptor() const { return slave_.get(); }
    /// What the terminal shows after everything that was written.
    std::vector<std::string> rows() const {
        std::string all;
        pollfd ready{master_.get(), POLLIN, 0};
        while (::poll(&ready, 1, 200) == 1) {  // the kernel hands it over in pieces
            std::array<char, 4096> piece;
            const ssize_t got = ::read(master_.get(), piece.data(), piece.size());
            if (got <= 0) break;
            all.append(piece.data(), static_cast<size_t>(got));
        }
        Screen screen(columns_);
        screen.feed(all);
        return screen.rows();
    }

  private:
    unsigned short columns_;
    FileDescriptor master_, slave_;
};

Progress::Status status_of(int64_t step) {
    return {
        .step = step, .loss = 5.43211, .lr = 1e-3, .tokens_per_s = 415234, .mfu = 0.413, .step_seconds = 2};
}

/// Prints a short run to `out`: steps 2 and 4 are not logged.
void play(Console* out) {
    Progress progress(out, 5);
    progress.step(status_of(1), true);
    progress.message("a note");
    progress.step(status_of(2), false);
    progress.message("another note");
    progress.step(status_of(3), true);
    if (out) out->write("a line of another part\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(110));
    progress.step(status_of(4), false);
}

const std::string kFirst = format_progress(status_of(1), 5), kThird = format_progress(status_of(3), 5),
                  kFourth = format_progress(status_of(4), 5);

TEST(Progress, PrintsPlainLinesOffATerminal) {
    const test::TempFolder folder;
    const fs::path path = folder.path() / "out";
    std::FILE* file = std::fopen(path.c_str(), "w");
    Console console(fileno(file));
    play(&console);
    std::fclose(file);
    std::ifstream in(path);
    const std::string all((std::istreambuf_iterator<char>(in)), {});
    EXPECT_EQ(all, kFirst + "\na note\nanother note\n" + kThird + "\na line of another part\n");
    play(nullptr);  // other ranks
}

TEST(Progress, KeepsEachLoggedStepOnATerminalAndTheLatestBelow) {
    const Terminal terminal(100);
    Console console(terminal.descriptor());
    play(&console);
    console.write("what comes after the run\n");
    console.flush();
    EXPECT_EQ(terminal.rows(),
              (std::vector<std::string>{kFirst, "a note", "another note", kThird, "a line of another part",
                                        kFourth, "what comes after the run", ""}));
}

TEST(Progress, GluesNoLineToTheNextOnANarrowTerminal) {
    const Terminal terminal(60);
    Console console(terminal.descriptor());
    play(&console);
    console.write("what comes after the run\n");
    console.flush();
    ASSERT_GT(kFirst.size(), 60u);
    EXPECT_EQ(terminal.rows(),
              (std::vector<std::string>{kFirst.substr(0, 60), kFirst.substr(60), "a note", "another note",
                                        kThird.substr(0, 60), kThird.substr(60), "a line of another part",
                                        kFourth.substr(0, 59), "what comes after the run", ""}));
}

TEST(Progress, IsPlainOnATerminalWhereAskedFor) {
    const Terminal terminal(100);
    const std::vector<std::string> plain = {
        kFirst, "a note", "another note", kThird, "a line of another part", ""};
    Console console(terminal.descriptor());
    EXPECT_TRUE(console.has_status());
    console.set_has_status(false);
    play(&console);
    console.flush();
    EXPECT_EQ(terminal.rows(), plain);
    ::setenv("TERM", "dumb", 1);
    Console dumb(terminal.descriptor());
    EXPECT_FALSE(dumb.has_status());
}

}  // namespace
}  // namespace pastur
