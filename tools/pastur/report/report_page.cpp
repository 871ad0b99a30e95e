#include "tools/pastur/report/report_page.h"

#include <nlohmann/json.hpp>

#include "data/output.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// The scripts, each after those it uses.
constexpr std::string_view kScripts[] = {
    "data.js",     "laws.js",     "draw.js",    "plot.js",   "table_drawing.js", "figure.js",   "groups.js",
    "controls.js", "metrics.js",  "colours.js", "maps.js",   "first.js",         "loss.js",     "onsets.js",
    "history.js",  "spectrum.js", "probe.js",   "tables.js", "watch.js",         "selftest.js", "main.js"};

std::string_view asset(std::string_view name) {
    for (const ReportAsset& candidate : report_assets())
        if (candidate.name == name) return candidate.text;
    PASTUR_CHECK(false, "no asset {}", name);
}

void replace(std::string& text, std::string_view mark, std::string_view by) {
    const size_t at = text.find(mark);
    PASTUR_CHECK(at != std::string::npos, "page.html lacks {}", mark);
    text.replace(at, mark.size(), by);
}

/// JSON that cannot end the script element around it.
std::string embed(const nlohmann::ordered_json& payload) {
    const std::string text =
        payload.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
    std::string safe;
    safe.reserve(text.size());
    for (const char c : text) {
        if (c == '<')
            safe += "\\u003c";
        else
            safe += c;
    }
    return safe;
}

}  // namespace

std::string make_report(const std::vector<std::filesystem::path>& folders, const ReportText& text) {
    std::string page(asset("page.html")), script;
    for (const std::string_view name : kScripts) script += asset(name);
    replace(page, "/*STYLE*/", asset("style.css"));
    replace(page, "/*SCRIPT*/", script);
    constexpr size_t kSlack = 4096;
    page.reserve(kMaxReportBytes);
    replace(page, "/*DATA*/", embed(report_payload(folders, kMaxReportBytes - page.size() - kSlack, text)));
    if (page.size() > kMaxReportBytes)
        fail(ExitCode::kUsage, "report fewer runs at once: {} runs make a page of {} bytes, more than {}",
             folders.size(), page.size(), kMaxReportBytes);
    return page;
}

void write_report(const std::vector<std::filesystem::path>& folders, const std::filesystem::path& file,
                  const ReportText& text) {
    write_file_atomically(file, make_report(folders, text));
}

}  // namespace pastur
