// The page in a browser: headless Chromium uses every control of the page (tools/report/selftest.js) and must
// find no failure. PASTUR_SCREENSHOTS=DIR keeps a picture of each test.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"
#include "tools/pastur/report/page_record.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

using test::write_sample_run;

class ReportPage : public test::CommandLine {
  protected:
    void SetUp() override {
        if (std::system("command -v chromium > /dev/null 2>&1") != 0)
            GTEST_SKIP() << "chromium is not installed";
        write_sample_run(file("a"), {.probed = true, .notes = "what <this> is for"});
        write_sample_run(file("b"), {.variant = "mla-decoupled", .ended = false});
        write_sample_run(file("plain"), {.measured = {}});
    }

    /// The standard output of Chromium with these options. Its messages go to the file "log".
    std::string chromium(const std::string& options, const std::string& page) const {
        const std::string command =
            "HOME='" + folder_.path().string() +
            "' timeout 120 chromium --headless=new --no-sandbox --disable-gpu " + "--user-data-dir='" +
            file("profile") + "' --virtual-time-budget=60000 --enable-logging=stderr " + options +
            " 'file://" + file(page) + "' > '" + file("dom") + "' 2> '" + file("log") + "'";
        EXPECT_EQ(std::system(command.c_str()), 0) << command << "\n" << read_file(file("log"), 1 << 24);
        return read_file(file("dom"), 1 << 26);
    }

    /// The option for a window that shows `width` x `height` pixels: bars of the browser take a height of their own, which
    /// depends on its version.
    std::string window(int width, int height) const {
        static const int bars = [this] {
            write("window.html", "<title></title><script>document.title = innerHeight</script>");
            const std::string dom = chromium("--window-size=1000,1000 --dump-dom", "window.html");
            return 1000 - std::atoi(dom.c_str() + dom.find("<title>") + 7);
        }();
        return fmt::format("--window-size={},{}", width, height + bars);
    }
    /// Opens the page, which tests itself.
    void expect_flawless(const std::string& name, const std::string& options,
                         const std::string& shows = "") const {
        SCOPED_TRACE(name + " " + options);
        const std::string dom = chromium(options + " --dump-dom", name + "#selftest");
        const size_t at = dom.find("<p id=\"selftest\">");
        ASSERT_NE(at, std::string::npos) << "the script did not reach its end";
        const std::string verdict = dom.substr(at, dom.find("</p>", at) - at);
        EXPECT_NE(verdict.find("PASS"), std::string::npos) << verdict;
        if (!shows.empty()) {
            EXPECT_NE(verdict.find(shows), std::string::npos) << verdict;
        }
        const std::string log = read_file(file("log"), 1 << 24);
        EXPECT_EQ(log.find(":CONSOLE"), std::string::npos) << log;
        if (const char* folder = std::getenv("PASTUR_SCREENSHOTS")) {
            const std::string picture = std::string(folder) + "/" + screenshot_name(name, options);
            chromium(options + " --hide-scrollbars --screenshot='" + picture + "'", name);
        }
    }
    static std::string screenshot_name(const std::string& name, const std::string& options) {
        std::string picture = name + options + ".png";
        for (char& c : picture)
            if (c == ' ' || c == '=' || c == ',') c = '_';
        return picture;
    }
    void make_page(const std::string& runs) const {
        const test::Result result = run("report " + runs + " -o page.html");
        ASSERT_EQ(result.code, 0) << result.err;
    }
};

TEST_F(ReportPage, OfTwoRunsWorksOnADesktop) {
    make_page("a b");
    expect_flawless("page.html", "--window-size=1280,4200");
}
TEST_F(ReportPage, HasAFirstScreenThatFitsTheWindow) {
    make_page("a b");
    expect_flawless("page.html", window(1440, 900), "1440 x 900");
    expect_flawless("page.html", window(1024, 768), "1024 x 768");
}
TEST_F(ReportPage, DrawsEveryGroupOfManyRunsInItsOwnWay) {
    std::string runs;
    // More groups than the page has colours, and two seeds of each.
    for (const char* variant : {"mha", "mla-prerope", "mla-decoupled", "mla-rope", "mla-nope", "mha-nope",
                                "mha-shared-rope", "mtla", "another"})
        for (uint64_t seed = 1; seed <= 2; ++seed) {
            const std::string name = fmt::format("{}-s{}", variant, seed);
            write_sample_run(file(name), {.variant = variant, .layers = 4, .probed = true, .seed = seed});
            runs += " " + name;
        }
    make_page(runs + " --title 'Eighteen runs' --notes 'a title and notes'");
    EXPECT_LE(std::filesystem::file_size(file("page.html")), kMaxReportBytes);
    expect_flawless("page.html", window(1440, 900));
    expect_flawless("page.html", window(1024, 768));
}
TEST_F(ReportPage, GroupsRunsByArm) {
    write_sample_run(file("short"), {.steps = 20, .measured = {0, 10, 20}});
    make_page("a short b");
    expect_flawless("page.html", "--window-size=1280,1800");
}
TEST_F(ReportPage, WorksOnAPhone) {
    make_page("a b");
    expect_flawless("page.html", "--window-size=500,5200");
}
TEST_F(ReportPage, WorksInTheDark) {
    make_page("a");
    expect_flawless("page.html", "--window-size=1280,4200 --blink-settings=preferredColorScheme=0");
}
TEST_F(ReportPage, WorksWithoutSpectra) {
    make_page("plain");
    expect_flawless("page.html", "--window-size=1280,2200");
}
// A study whose runs are kept as records has maps of every variant, also next to a whole run.
TEST_F(ReportPage, OfRecordsHasAFirstScreenWithMaps) {
    for (const char* run : {"a", "b"}) {
        RunRecord record;
        std::vector<std::string> notes;
        record.page =
            page_record(read_report_run(file(run)), read_metric_grids(file(run) + "/spectra", notes));
        const std::string kept = std::string("kept-") + run;
        std::filesystem::create_directories(file(kept));
        std::filesystem::copy_file(file(run) + "/config.toml", file(kept + "/config.toml"));
        write_run_record(record_of(file(kept)), record);
    }
    make_page("kept-a kept-b");
    expect_flawless("page.html", window(1440, 900));
    expect_flawless("page.html", window(1024, 768));
    make_page("kept-a a kept-b plain");
    expect_flawless("page.html", "--window-size=1280,4200");
}
TEST_F(ReportPage, WorksWhereOnlyOneRunHasSpectra) {
    make_page("plain a");
    expect_flawless("page.html", "--window-size=1280,4200");
}

}  // namespace
}  // namespace pastur
