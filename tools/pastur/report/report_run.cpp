#include "tools/pastur/report/report_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/io/text_lines.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr int64_t kMaxTextFile = 1 << 20;  ///< config.toml and env.json have a few KiB

Table make_table(std::vector<std::string> names) {
    Table table;
    table.columns.resize(names.size());
    table.names = std::move(names);
    return table;
}

/// Appends the event. An event at an earlier step, of a run that was resumed, replaces the rows from that
/// step on.
void append(Table& table, const nlohmann::json& event) {
    const double step = number_of(event, "step");
    if (!std::isfinite(step)) return;
    std::vector<double>& steps = table.columns.front();
    while (!steps.empty() && steps.back() >= step)
        for (std::vector<double>& column : table.columns) column.pop_back();
    for (size_t i = 0; i < table.names.size(); ++i)
        table.columns[i].push_back(number_of(event, table.names[i].c_str()));
}

void read_event(const nlohmann::json& event, ReportRun& run) {
    const auto kind = event.find("event");
    if (kind == event.end() || !kind->is_string()) return;
    if (*kind == "start") {
        run.start = event;
        run.end = nullptr;  // the run was resumed after its end
    } else if (*kind == "train") {
        append(run.train, event);
    } else if (*kind == "val" && !event.contains("set")) {
        append(run.val, event);
    } else if (*kind == "end") {
        run.end = event;
    } else if (*kind == "spike" || *kind == "collapse") {
        run.onsets.add(event);
    }
}

}  // namespace

std::string read_run_text(const std::filesystem::path& file, ReportRun& run) {
    if (path_exists(file)) return read_file(file, kMaxTextFile);
    run.notes.push_back(fmt::format("{} is missing", file.filename().string()));
    return {};
}

const std::vector<double>& Table::operator[](const std::string& name) const {
    const auto found = std::find(names.begin(), names.end(), name);
    PASTUR_CHECK(found != names.end(), "no column {}", name);
    return columns[static_cast<size_t>(found - names.begin())];
}

double number_of(const nlohmann::json& object, const char* key) {
    const auto value = object.find(key);
    return value != object.end() && value->is_number() ? value->get<double>() : NAN;
}

int64_t read_json_lines(const std::filesystem::path& file,
                        const std::function<void(const nlohmann::json&)>& use) {
    if (!path_exists(file)) return 0;
    int64_t unreadable = 0;
    const int64_t too_long = for_each_line(file, kMaxJsonBytes, [&](std::string_view line) {
        if (line.empty()) return;
        const nlohmann::json object = parse_json(line);
        if (object.is_object())
            use(object);
        else
            ++unreadable;
    });
    return unreadable + too_long;
}

std::string run_name(const std::filesystem::path& folder) {
    std::filesystem::path named = std::filesystem::absolute(folder).lexically_normal();
    if (!named.has_filename()) named = named.parent_path();
    return named.filename().string();
}

ReportRun read_report_run(const std::filesystem::path& folder) {
    const std::filesystem::path metrics = folder / "metrics.jsonl";
    if (!std::filesystem::is_regular_file(metrics))
        fail(ExitCode::kMissingInput, "{}: no such file; expected a run folder of pastur train",
             metrics.string());
    ReportRun run;
    run.folder = folder;
    run.name = run_name(folder);
    run.train = make_table({"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "tflops", "mfu",
                            "step_ms", "data_ms", "mem_gib", "skipped"});
    run.val = make_table({"step", "loss", "ppl"});
    int64_t readable = 0;
    const int64_t unreadable = read_json_lines(metrics, [&](const nlohmann::json& event) {
        read_event(event, run);
        ++readable;
    });
    if (unreadable > 0 && readable == 0)
        fail(ExitCode::kCorruptData, "{}: none of its {} lines is a JSON object", metrics.string(),
             unreadable);
    if (unreadable > 0)
        run.notes.push_back(fmt::format("metrics.jsonl: {} of {} lines could not be read", unreadable,
                                        readable + unreadable));
    run.config_text = read_run_text(folder / "config.toml", run);
    const std::string environment = read_run_text(folder / "env.json", run);
    run.environment = parse_json(environment);
    if (!run.environment.is_object()) run.environment = nullptr;
    return run;
}

Table thin_table(const Table& table, const std::string& column, size_t most) {
    const size_t rows = table.rows();
    if (rows <= most || most < 4) return table;
    const std::vector<double>& value = table[column];
    const auto smaller = [&](size_t a, size_t b) { return value[a] < value[b]; };
    const size_t stretches = most / 2;
    std::vector<size_t> kept = {0, rows - 1};
    for (size_t i = 0; i < stretches; ++i) {
        std::vector<size_t> indices;
        for (size_t row = i * rows / stretches; row < (i + 1) * rows / stretches; ++row)
            if (std::isfinite(value[row])) indices.push_back(row);
        if (indices.empty()) continue;
        kept.push_back(*std::min_element(indices.begin(), indices.end(), smaller));
        kept.push_back(*std::max_element(indices.begin(), indices.end(), smaller));
    }
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    Table thinned = make_table(table.names);
    for (size_t i = 0; i < table.columns.size(); ++i)
        for (const size_t row : kept) thinned.columns[i].push_back(table.columns[i][row]);
    return thinned;
}

}  // namespace pastur
