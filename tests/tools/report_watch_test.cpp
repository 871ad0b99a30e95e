// `pastur report --watch`: a page that is written again as its runs go on and reloads itself in the browser meanwhile.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "data/output.h"
#include "tests/support/command_line.h"
#include "tests/support/sample_run.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::write_sample_run;

class ReportWatch : public test::CommandLine {
  protected:
    ReportWatch() : CommandLine(test::folder_in_memory()) {}
    /// The data of the page; null before it is written.
    nlohmann::json payload(const std::string& page) const {
        if (!fs::exists(file(page))) return nullptr;
        const std::string text = read_file(file(page), 1 << 26);
        const std::string begin = "<script type=\"application/json\" id=\"data\">";
        const size_t at = text.find(begin) + begin.size();
        return nlohmann::json::parse(text.substr(at, text.find("</script>", at) - at));
    }
    static void await(const std::function<bool()>& reached, const char* what) {
        for (int i = 0; i < 3000 && !reached(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        ASSERT_TRUE(reached()) << what;
    }
    /// Runs `pastur report <arguments>` in the background; its process id goes to the file "pid".
    std::future<test::Result> watch(const std::string& arguments) const {
        return std::async(std::launch::async, [this, arguments] {
            return shell("{ '" + binary().string() + "' report " + arguments +
                         " & echo $! > pid; wait $!; }");
        });
    }
    void append(const std::string& run, const nlohmann::json& event) const {
        std::ofstream(file(run + "/metrics.jsonl"), std::ios::app) << event.dump() << "\n";
    }
    /// Ends a cut last line, and the run.
    void end(const std::string& run, const std::string& status) const {
        std::ofstream(file(run + "/metrics.jsonl"), std::ios::app) << "\n";
        append(run, {{"v", 1}, {"event", "end"}, {"step", 40}, {"status", status}});
    }
};

TEST_F(ReportWatch, RewritesThePageUntilEveryRunHasEnded) {
    write_sample_run(file("a"), {});
    write_sample_run(file("b"), {.ended = false});
    auto process = watch("a b -o page.html --watch 1");
    await([&] { return fs::exists(file("page.html")); }, "the first page");
    EXPECT_EQ(payload("page.html").at("reload"), 1);
    append("b", {{"v", 1}, {"event", "train"}, {"step", 41}, {"loss", 1.5}});  // ends the cut line
    append("b", {{"v", 1}, {"event", "train"}, {"step", 42}, {"loss", 1.25}});
    await([&] { return payload("page.html").at("runs")[1].at("train").at("loss").back() == 1.25; },
          "the new loss");
    // A run that was stopped may be resumed, and one that was resumed after its end has not ended.
    end("b", "requeue");
    append("b", {{"v", 1}, {"event", "start"}, {"step", 42}});
    await([&] { return payload("page.html").at("runs")[1].at("start").value("step", 0) == 42; },
          "the second start");
    EXPECT_TRUE(payload("page.html").contains("reload"));
    end("b", "done");
    const test::Result result = process.get();
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("rewriting it at most every 1 s until 1 unfinished run end"), std::string::npos)
        << result.out;
    EXPECT_FALSE(payload("page.html").contains("reload"));
    EXPECT_EQ(payload("page.html").at("runs")[1].at("end").at("status"), "done");
}

TEST_F(ReportWatch, WaitsForRunsToBeginAndASignalWritesTheLastPage) {
    auto process = watch("late -o page.html --watch 1");
    await([&] { return fs::exists(file("out")) && !read_file(file("out"), 1 << 20).empty(); },
          "its first line");
    EXPECT_FALSE(fs::exists(file("page.html")));
    write_sample_run(file("late"), {.measured = {}, .ended = false});
    await([&] { return fs::exists(file("page.html")); }, "the page");
    EXPECT_TRUE(payload("page.html").contains("reload"));
    EXPECT_EQ(std::system(("kill -INT $(cat '" + file("pid") + "')").c_str()), 0);
    const test::Result result = process.get();
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("waiting for 1 run to begin"), std::string::npos) << result.out;
    EXPECT_FALSE(payload("page.html").contains("reload"));
}

TEST_F(ReportWatch, AStudyIsAllItsRuns) {
    fs::create_directories(file("study/runs"));
    write_sample_run(file("study/runs/mha-s1"), {.measured = {}});
    auto process = watch("study --watch 1");
    await([&] { return fs::exists(file("study/report.html")); }, "the page");
    EXPECT_TRUE(payload("study/report.html").contains("reload")) << "more runs may begin";
    const nlohmann::json runs = {{{"run", "mha-s1"}, {"done", true}},
                                 {{"run", "mha-s2"}, {"done", false}},
                                 {{"run", "mha-s3"}, {"done", false}, {"error", "pastur: no"}}};
    write_file_atomically(file("study/study.json"),
                          nlohmann::json{{"title", "Seeds"}, {"notes", "n"}, {"runs", runs}}.dump());
    await([&] { return payload("study/report.html").at("title") == "Seeds"; }, "the title of the study");
    EXPECT_TRUE(payload("study/report.html").contains("reload")) << "mha-s2 has yet to begin";
    write_sample_run(file("study/runs/mha-s2"), {.measured = {}, .seed = 2});
    EXPECT_EQ(process.get().code, 0);
    EXPECT_EQ(payload("study/report.html").at("runs").size(), 2u);
    EXPECT_FALSE(payload("study/report.html").contains("reload"));
    for (const char* broken :
         {"", "[]", "{\"runs\":3}", "{\"runs\":[3,{\"run\":3}],\"analysis\":[],\"title\":1}"}) {
        write("study/study.json", broken);
        EXPECT_EQ(run("report study -o broken.html").code, 0) << broken;
    }
    const test::Result once = run("report study -o once.html --title Own");
    ASSERT_EQ(once.code, 0) << once.err;
    EXPECT_EQ(payload("once.html").at("title"), "Own");
    EXPECT_EQ(payload("once.html").at("runs").size(), 2u);
}

TEST_F(ReportWatch, RefusesWhatIsNoRun) {
    write("text", "x");
    fs::create_directory(file("folder"));
    write("folder/x", "x");
    expect_failure("report text --watch", 66, {"text", "expected a run folder"});
    expect_failure("report folder --watch", 66, {"folder/metrics.jsonl", "expected a run folder"});
    expect_failure("report folder --watch 0", 2, {"--watch 0"});
    expect_failure("report --watch folder folder", 2, {"--watch folder", "give the run folders before it"});
}

/// A page in a frame of another one, which chooses, scrolls, and waits for the reload.
TEST_F(ReportWatch, AReloadKeepsThePlaceAndTheChoices) {
    if (std::system("command -v chromium > /dev/null 2>&1") != 0) GTEST_SKIP() << "chromium is not installed";
    write_sample_run(file("a"), {.ended = false, .probed = true});
    auto process = watch("a -o page.html --watch 3");
    await([&] { return fs::exists(file("page.html")); }, "the page");
    EXPECT_EQ(std::system(("kill -KILL $(cat '" + file("pid") + "')").c_str()), 0);
    process.get();
    ASSERT_TRUE(payload("page.html").contains("reload"));
    write("frame.html",
          R"(<!doctype html><body><iframe id="f" src="page.html" width="1200" height="800"></iframe><script>
const frame = document.getElementById('f'), wait = (ms) => new Promise((done) => setTimeout(done, ms));
let loads = 0;
const drawn = async () => {
  while (frame.contentDocument.documentElement.dataset.drawn !== 'all') await wait(20);
};
const choice = (name) => frame.contentDocument.querySelector(`select[name="${name}"]`);
frame.onload = async () => {
  ++loads;
  await drawn();
  const page = frame.contentWindow;
  if (loads === 1) {
    choice('layer').value = '1';
    choice('layer').dispatchEvent(new Event('change'));
    page.document.querySelector('#recipes details').open = true;
    choice('layer').focus();
    page.scrollTo(0, 2222);
    return;
  }
  const seen = [loads, choice('layer').value, page.scrollY, page.document.querySelector('#recipes details').open,
                page.document.activeElement.name, page.document.querySelectorAll('#live button').length];
  document.body.append(`seen ${seen.join(' ')}.`);
  frame.onload = null;
  frame.remove();
};
</script></body>)");
    const std::string command =
        "HOME='" + folder_.path().string() +
        "' timeout 60 chromium --headless=new --no-sandbox --disable-gpu --allow-file-access-from-files "
        "--user-data-dir='" +
        file("profile") + "' --window-size=1300,1000 --virtual-time-budget=20000 --dump-dom 'file://" +
        file("frame.html") + "' > '" + file("dom") + "' 2> '" + file("log") + "'";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    const std::string dom = read_file(file("dom"), 1 << 24);
    EXPECT_NE(dom.find("seen 2 1 2222 true layer 1."), std::string::npos)
        << dom.substr(dom.find("</script>"));
}

}  // namespace
}  // namespace pastur
