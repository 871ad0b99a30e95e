#include "tools/pastur/report/watched_runs.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "kernels/base/error.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMetrics = "metrics.jsonl";
constexpr int64_t kMaxStudyBytes = 64 << 20;

/// Size and time of a file; "-": there is none.
std::string stamp_of(const fs::path& file) {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) return "-";
    return fmt::format("{},{}.{}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

bool has_ended(const fs::path& folder) {
    std::string end;
    read_json_lines(folder / kMetrics, [&](const nlohmann::json& event) {
        const auto text = [&](const char* key) {
            const auto value = event.find(key);
            return value != event.end() && value->is_string() ? value->get<std::string>() : std::string();
        };
        if (text("event") == "start") end.clear();
        if (text("event") == "end") end = text("status");
    });
    return !end.empty() && end != "requeue";
}

/// The names of the runs of study.json, and those among them that failed.
void read_names(const nlohmann::ordered_json& study, std::set<std::string>& names,
                std::set<std::string>& failed) {
    const auto runs = study.is_object() ? study.find("runs") : study.end();
    if (!study.is_object() || runs == study.end() || !runs->is_array()) return;
    for (const auto& run : *runs) {
        const auto name = run.is_object() ? run.find("run") : run.end();
        if (!run.is_object() || name == run.end() || !name->is_string()) continue;
        names.insert(name->get<std::string>());
        if (run.contains("error")) failed.insert(name->get<std::string>());
    }
}

}  // namespace

bool is_study_folder(const fs::path& folder) {
    std::error_code ignored;
    return !fs::exists(folder / kMetrics, ignored) && fs::is_directory(folder / "runs", ignored);
}

WatchedRuns::WatchedRuns(std::vector<fs::path> paths) : paths_(std::move(paths)) {
    for (const fs::path& path : paths_) {
        std::error_code ignored;
        if (!fs::exists(path, ignored) || is_study_folder(path) || fs::exists(path / kMetrics, ignored) ||
            is_kept_as_record(path))
            continue;
        if (!fs::is_directory(path, ignored))
            fail(ExitCode::kMissingInput, "{}: expected a run folder of pastur train, or that of a study",
                 path.string());
        // A run that begins has these first.
        const bool begins = fs::exists(path / "env.json", ignored) || fs::exists(path / ".owner", ignored);
        if (!begins && !fs::is_empty(path, ignored))
            fail(ExitCode::kMissingInput,
                 "{}: no such file; expected a run folder of pastur train, or that of a study",
                 (path / kMetrics).string());
    }
    refresh();
}

void WatchedRuns::refresh() {
    folders_.clear();
    fingerprint_.clear();
    unfinished_ = 0;
    study_ = nullptr;
    for (const fs::path& path : paths_)
        if (is_study_folder(path))
            add_study(path);
        else
            add_run(path, /*in_study=*/false);
}

void WatchedRuns::add_run(const fs::path& folder, bool in_study) {
    std::error_code ignored;
    if (is_kept_as_record(folder)) {
        // Records of former versions hold nothing to draw, and may be of a study's other runs.
        if (in_study && read_run_record(record_of(folder)).page.is_null()) return;
        folders_.push_back(folder);
        fingerprint_ += folder.string() + ' ' + stamp_of(record_of(folder));
        return;
    }
    if (!fs::is_regular_file(folder / kMetrics, ignored)) {
        ++unfinished_;
        return;
    }
    folders_.push_back(folder);
    if (!has_ended(folder)) ++unfinished_;
    fingerprint_ += folder.string();
    for (const char* name : {kMetrics, "config.toml", "env.json", "spectra/summary.jsonl",
                             "spectra/logits.jsonl", "spectra/latents.jsonl"})
        fingerprint_ += ' ' + stamp_of(folder / name);
}

void WatchedRuns::add_study(const fs::path& folder) {
    const fs::path file = folder / "study.json";
    if (path_exists(file))
        study_ = parse_json<nlohmann::ordered_json>(read_file(file, kMaxStudyBytes), kMaxStudyBytes);
    std::set<std::string> names, failed;
    read_names(study_, names, failed);
    // Until study.json lists them, there may be more.
    if (names.empty()) ++unfinished_;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder / "runs", ignored))
        names.insert(entry.path().filename().string());
    for (const std::string& name : names) {
        const int64_t before = unfinished_;
        add_run(folder / "runs" / name, /*in_study=*/true);
        if (failed.contains(name)) unfinished_ = before;
    }
    fingerprint_ += ' ' + stamp_of(file);
}

ReportText WatchedRuns::describe(const ReportText& text) const {
    ReportText described = text;
    if (paths_.size() != 1 || !study_.is_object()) return described;
    const auto fill = [&](std::string& part, const char* key) {
        const auto value = study_.find(key);
        if (part.empty() && value != study_.end() && value->is_string()) part = value->get<std::string>();
    };
    fill(described.title, "title");
    fill(described.notes, "notes");
    const auto analysis = study_.find("analysis");
    if (unfinished_ == 0 && analysis != study_.end() && analysis->is_object() &&
        analysis->contains("findings"))
        described.analysis = &*analysis;
    return described;
}

}  // namespace pastur
