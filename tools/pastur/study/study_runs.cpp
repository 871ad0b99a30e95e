#include "tools/pastur/study/study_runs.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/meta.h"
#include "data/output.h"
#include "kernels/base/error.h"
#include "tools/pastur/analysis/analysis.h"
#include "tools/pastur/analysis/run_series.h"
#include "tools/pastur/report/page_record.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {

namespace fs = std::filesystem;

Study::Study(StudyDesign design, fs::path out) : design_(std::move(design)), out_(std::move(out)) {
    if (design_.data) {
        use_study_data(design_, data_folder(out_).string());
        data_state(out_, *design_.data);
    }
    for (const StudyCell& cell : design_.cells) check_same_settings(out_, cell);
    refresh();
}

const StudyCell& Study::cell(const std::string& name) const {
    const auto found = std::find_if(design_.cells.begin(), design_.cells.end(),
                                    [&](const StudyCell& cell) { return cell.name == name; });
    PASTUR_CHECK(found != design_.cells.end(), "no run {}", name);
    return *found;
}

bool Study::refresh(const std::string& name) {
    const CellState now = state_of(out_, cell(name));
    const auto before = states_.find(name);
    const bool changed = before == states_.end() || before->second.status != now.status;
    states_[name] = now;
    return changed;
}

bool Study::refresh() {
    bool changed = false;
    for (const StudyCell& cell : design_.cells) changed |= refresh(cell.name);
    return changed;
}

int64_t Study::count(CellState::Status status) const {
    return std::count_if(states_.begin(), states_.end(),
                         [&](const auto& state) { return state.second.status == status; });
}

double Study::seconds_left(const StudyCell& cell) const {
    const CellState& state = states_.at(cell.name);
    if (state.status == CellState::Status::kDone) return 0;
    double steps = 0, seconds = 0, same_steps = 0, same_seconds = 0;
    for (const StudyCell& other : design_.cells) {
        const CellState& known = states_.at(other.name);
        steps += static_cast<double>(known.step);
        seconds += known.elapsed_s;
        if (other.variant != cell.variant || other.arm != cell.arm) continue;
        same_steps += static_cast<double>(known.step);
        same_seconds += known.elapsed_s;
    }
    const double pace = same_steps > 0 ? same_seconds / same_steps : steps > 0 ? seconds / steps : NAN;
    return pace * static_cast<double>(std::max<int64_t>(0, state.steps - state.step));
}

double Study::seconds_left() const {
    double sum = 0;
    for (const StudyCell& cell : design_.cells) sum += seconds_left(cell);
    return sum;
}

void Study::read_finished(const StudyCell& cell) {
    const fs::path folder = cell_folder(out_, cell);
    RunRecord record =
        is_kept_as_record(folder) ? read_run_record(record_of(folder)) : make_record(cell, folder);
    add_settings(record.statistics, cell.config);
    if (!record.page.is_null()) drawable_.insert(cell.name);
    finished_[cell.name] = std::move(record.summary);
    statistics_[cell.name] = std::move(record.statistics);
}

RunRecord Study::make_record(const StudyCell& cell, const fs::path& folder) const {
    RunSeries series;
    RunRecord record;
    RunSummary& summary = record.summary;
    MetricRecords maps;
    summary = summarise_run(folder, [&](const nlohmann::json& line) {
        series.add(line);
        if (is_in_page_record(line)) maps.add(line);
    });
    series.finish();
    record.page = page_record(read_report_run(folder), maps.take_grids(folder / "spectra" / "summary.jsonl"));
    // The run's recipe says where the data was when the run was trained.
    if (design_.data && path_exists(data_folder(out_)))
        summary.unigram_entropy = read_meta(data_folder(out_)).val.unigram_entropy;
    RunStatistics& run = record.statistics;
    run.name = cell.name;
    run.variant = cell.variant;
    run.arm = cell.arm;
    run.val_loss = summary.val_loss;
    run.steps = cell.config.train.steps;
    add_statistics(run, series);
    write_run_record(record_of(folder), record);
    return record;
}

nlohmann::ordered_json Study::write_json() {
    nlohmann::ordered_json json;
    // Whichever process writes last has seen every run that ended before it did.
    do {
        std::map<std::string, std::string> errors;
        for (const StudyCell& cell : design_.cells) {
            const CellState& state = states_.at(cell.name);
            if (state.status == CellState::Status::kFailed) errors[cell.name] = state.error;
            if (state.status == CellState::Status::kDone && !finished_.contains(cell.name))
                read_finished(cell);
        }
        std::vector<RunStatistics> statistics;
        for (const StudyCell& cell : design_.cells)
            if (const auto found = statistics_.find(cell.name); found != statistics_.end())
                statistics.push_back(found->second);
        json = study_json(design_, finished_, errors, statistics);
        if (design_.data && path_exists(data_folder(out_)))
            json["data"] = describe_study_data(out_, *design_.data);
        write_file_atomically(out_ / "study.json", readable_text(json));
    } while (refresh());
    return json;
}

fs::path Study::write_page(const nlohmann::ordered_json& json) const {
    const fs::path page = out_ / "report.html";
    const std::vector<fs::path> folders = drawable_folders();
    if (folders.empty()) return {};
    write_report(folders, page, {design_.title, design_.notes, &json.at("analysis")});
    return page;
}

std::vector<fs::path> Study::drawable_folders() const {
    std::vector<fs::path> folders;
    for (const StudyCell& cell : design_.cells)
        if (drawable_.contains(cell.name)) folders.push_back(cell_folder(out_, cell));
    return folders;
}

}  // namespace pastur
