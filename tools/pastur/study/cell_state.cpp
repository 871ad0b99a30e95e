#include "tools/pastur/study/cell_state.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/model/recipe.h"
#include "engine/train/training_data.h"
#include "kernels/base/error.h"
#include "tools/pastur/report/report_run.h"
#include "tools/pastur/runs/run_record.h"
#include "tools/pastur/runs/run_summary.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The part of a configuration that decides a run's results, with absolute paths.
Config results_of(Config config) {
    config.run = {};
    config.hw = {};
    config.checkpoint = {};
    config.train.steps = 0;
    config.train.micro_batch = 0;  // follows the number of ranks
    std::string& init_from = config.train.init_from;
    if (!init_from.empty()) init_from = fs::absolute(init_from).lexically_normal().string();
    return with_absolute_data(std::move(config));
}

/// "train.lr is 0.1, the design's is 0.5; ...": the first settings that differ.
std::string differences(const Config& made, const Config& designed) {
    constexpr int kMost = 4;
    std::string text;
    int count = 0;
    for (const Field& field : config_fields()) {
        const std::string before = value_text(field, made), now = value_text(field, designed);
        if (before == now || ++count > kMost) continue;
        text += fmt::format("{}{} is {}, the design's is {}", text.empty() ? "" : "; ", field.path(), before,
                            now);
    }
    return count > kMost ? fmt::format("{}; and {} more", text, count - kMost) : text;
}

/// Reads the events of metrics.jsonl.
void read_log(const fs::path& folder, CellState& state) {
    std::string end;
    read_json_lines(folder / "metrics.jsonl", [&](const json& event) {
        const std::string kind = event.is_object() ? event.value("event", std::string()) : std::string();
        if (kind == "start") end.clear();
        if (kind == "train" || kind == "end")
            if (const int64_t step = integer_or_minus_one(event, "step"); step >= 0) state.step = step;
        if (kind == "end") end = event.value("status", std::string());
        if (const double elapsed = number_or_nan(event, "elapsed_s"); elapsed >= 0) state.elapsed_s = elapsed;
    });
    const bool silent = is_silent(folder / "metrics.jsonl");
    state.status = end.empty()     ? (silent ? CellState::Status::kStopped : CellState::Status::kRunning)
                   : end == "done" ? CellState::Status::kDone
                                   : CellState::Status::kStopped;
    if (end == "done" && state.step < state.steps) state.status = CellState::Status::kStopped;
}

/// A record of fewer steps than the design's cannot be continued, so its run waits to be trained from the start.
void read_record_state(const fs::path& folder, CellState& state) {
    const RunSummary summary = read_run_record(record_of(folder)).summary;
    if (summary.step < state.steps) return;
    state.status = CellState::Status::kDone;
    state.step = summary.step;
    state.elapsed_s = summary.elapsed_s;
}

}  // namespace

fs::path cell_folder(const fs::path& out, const StudyCell& cell) {
    return out / "runs" / cell.name;
}

fs::path log_of(const fs::path& out, const StudyCell& cell) {
    return out / "logs" / (cell.name + ".log");
}

const char* name_of(CellState::Status status) {
    switch (status) {
        case CellState::Status::kWaiting:
            return "waiting";
        case CellState::Status::kRunning:
            return "running";
        case CellState::Status::kStopped:
            return "stopped";
        case CellState::Status::kFailed:
            return "failed";
        case CellState::Status::kDone:
            return "done";
    }
    return "";
}

CellState state_of(const fs::path& out, const StudyCell& cell) {
    CellState state;
    state.steps = cell.config.train.steps;
    const fs::path folder = cell_folder(out, cell);
    if (has_run_log(folder))
        read_log(folder, state);
    else if (is_kept_as_record(folder))
        read_record_state(folder, state);
    if (state.status == CellState::Status::kDone) return state;
    if (const std::string error = last_error(log_of(out, cell)); !error.empty()) {
        // Another process that trains this run is no failure of it.
        const bool in_use = error.find(" in use by ") != std::string::npos;
        state.status = in_use ? CellState::Status::kRunning : CellState::Status::kFailed;
        state.error = in_use ? "" : error;
    }
    return state;
}

void check_same_settings(const fs::path& out, const StudyCell& cell) {
    const fs::path made = cell_folder(out, cell) / "config.toml";
    std::error_code ignored;
    if (!fs::exists(made, ignored)) return;
    Config now = cell.config, before = load_config(made.string(), {});
    // Data of the study is compared by data_state(), so that the study's folder can move. A record may come from a
    // machine with other paths.
    if (!cell.data_dir.empty() || is_kept_as_record(cell_folder(out, cell)))
        for (Config* config : {&now, &before})
            for (std::string* path : {&config->data.dir, &config->data.train, &config->data.val})
                path->clear();
    now = results_of(now);
    before = results_of(before);
    if (now == before) return;
    fail(
        ExitCode::kUsage,
        "run {} was made with other settings than the design's: {}. Give the design the run's settings, or another "
        "--out, or remove the run ({})",
        cell.name, differences(before, now), made.parent_path().string());
}

std::string last_error(const fs::path& log) {
    constexpr std::streamoff kTail = 4096;
    std::ifstream in(log, std::ios::binary | std::ios::ate);
    if (!in) return "";
    const std::streamoff size = in.tellg();
    in.seekg(std::max<std::streamoff>(0, size - kTail));
    std::string last;
    for (std::string line; std::getline(in, line);)
        if (!line.empty()) last = line;
    return last.starts_with("pastur: ") ? last : "";
}

}  // namespace pastur
