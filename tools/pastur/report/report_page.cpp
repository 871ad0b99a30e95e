#include "tools/pastur/report/report_page.h"

#include <nlohmann/json.hpp>

#include "data/output.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

/// The scripts, each after those it uses.
constexpr std::string_view kScripts[] = {"data.js",     "laws.js",   "draw.js",     "heatmap.js",
                                         "controls.js", "loss.js",   "metrics.js",  "spectrum.js",
                                         "history.js",  "tables.js", "selftest.js", "main.js"};

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

std::string make_report(const std::vector<std::filesystem::path>& folders,
                        const nlohmann::ordered_json* analysis) {
    std::string page(asset("page.html")), script;
    for (const std::string_view name : kScripts) script += asset(name);
    replace(page, "/*STYLE*/", asset("style.css"));
    replace(page, "/*SCRIPT*/", script);
    constexpr size_t kSlack = 4096;
    page.reserve(kMaxReportBytes);
    replace(page, "/*DATA*/",
            embed(report_payload(folders, kMaxReportBytes - page.size() - kSlack, analysis)));
    if (page.size() > kMaxReportBytes)
        fail(ExitCode::kUsage, "report fewer runs at once: {} runs make a page of {} bytes, more than {}",
             folders.size(), page.size(), kMaxReportBytes);
    return page;
}

void write_report(const std::vector<std::filesystem::path>& folders, const std::filesystem::path& file,
                  const nlohmann::ordered_json* analysis) {
    write_file_atomically(file, make_report(folders, analysis));
}

std::string base64(std::span<const std::byte> bytes) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        for (size_t j = 0; j < 3; ++j)
            group = group << 8 | (i + j < bytes.size() ? std::to_integer<uint32_t>(bytes[i + j]) : 0);
        for (int digit = 3; digit >= 0; --digit) text += kDigits[group >> (6 * digit) & 63];
    }
    for (size_t i = bytes.size(); i % 3 != 0; ++i) text[text.size() - 1 - (i - bytes.size())] = '=';
    return text;
}

}  // namespace pastur
