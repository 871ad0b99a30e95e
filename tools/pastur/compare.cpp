// pastur compare: runs side by side, from what their folders say.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"
#include "tools/pastur/runs/run_columns.h"
#include "tools/pastur/runs/run_record.h"

namespace pastur {
namespace {

struct CompareArguments {
    std::vector<std::string> folders;
    std::string json, csv, sort;
};

using Column = RunColumn;

const std::vector<Column>& columns() {
    return run_columns();
}

const Column& column_named(const std::string& key) {
    std::vector<std::string> keys;
    for (const Column& column : columns()) {
        if (key == column.key) return column;
        keys.emplace_back(column.key);
    }
    fail(ExitCode::kUsage, "--sort {}: expected one of {}; did you mean {}?", key, fmt::join(keys, ", "),
         nearest_name(key, keys));
}

/// Ascending; runs without the figure last.
void sort_by(std::vector<RunSummary>& runs, const Column& column) {
    std::stable_sort(runs.begin(), runs.end(), [&](const RunSummary& a, const RunSummary& b) {
        if (!column.number) return column.text(a) < column.text(b);
        const double x = column.number(a), y = column.number(b);
        return std::isfinite(x) && (!std::isfinite(y) || x < y);
    });
}

std::string table(const std::vector<RunSummary>& runs) {
    std::vector<std::string> lines(runs.size() + 1);
    for (const Column& column : columns()) {
        if (!column.head) continue;
        std::vector<std::string> cells = {column.head};
        for (const RunSummary& run : runs) cells.push_back(printable(column.text(run)));
        size_t width = 0;
        for (const std::string& cell : cells) width = std::max(width, cell.size());
        for (size_t i = 0; i < cells.size(); ++i)
            lines[i] += column.number ? fmt::format("{:>{}}  ", cells[i], width)
                                      : fmt::format("{:<{}}  ", cells[i], width);
    }
    std::string text;
    for (std::string& line : lines) {
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text +
           "\nLosses in nats per token, @ the step they are from. unigram: entropy of the validation tokens' "
           "frequencies, "
           "the best\nof a model that ignores context. tokens/s: median of the logged steps. cache B: bytes "
           "per token of an "
           "inference cache in\nbf16. kept: stable rank of the query-key forms as a share of that at step 0 "
           "and of the "
           "product null's. peak: largest\neigenvalue over the null's edge. spike, collapse: first step of "
           "the first "
           "onset.\n";
}

nlohmann::ordered_json to_json(const std::vector<RunSummary>& runs) {
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const RunSummary& run : runs) {
        nlohmann::ordered_json one;
        for (const Column& column : columns()) one[column.key] = column.json(run);
        all.push_back(std::move(one));
    }
    return all;
}

std::string to_csv(const std::vector<RunSummary>& runs) {
    const auto quoted = [](std::string text) {
        if (text.find_first_of(",\"\n") == std::string::npos) return text;
        for (size_t i = 0; (i = text.find('"', i)) != std::string::npos; i += 2) text.insert(i, "\"");
        return "\"" + text + "\"";
    };
    std::string csv;
    for (const Column& column : columns()) csv += (csv.empty() ? "" : ",") + std::string(column.key);
    csv += "\n";
    for (const RunSummary& run : runs) {
        std::vector<std::string> cells;
        for (const Column& column : columns()) {
            const double number = column.number ? column.number(run) : NAN;
            cells.push_back(!column.number          ? quoted(column.text(run))
                            : std::isfinite(number) ? fmt::format("{}", number)
                                                    : "");
        }
        csv += fmt::format("{}\n", fmt::join(cells, ","));
    }
    return csv;
}

int compare(const CompareArguments& arguments) {
    const Column* order = arguments.sort.empty() ? nullptr : &column_named(arguments.sort);
    std::vector<RunSummary> runs;
    for (const std::string& folder : arguments.folders) {
        if (has_run_log(folder))
            runs.push_back(summarise_run(folder));
        else if (is_kept_as_record(folder))
            runs.push_back(read_run_record(record_of(folder)).summary);
        else
            print_note(
                "pastur: {} is passed over: not a run folder (neither metrics.jsonl nor statistics.json in it)\n",
                printable(folder));
    }
    if (runs.empty())
        fail(ExitCode::kMissingInput, "expected run folders of pastur train; none of the {} paths is one",
             arguments.folders.size());
    if (order) sort_by(runs, *order);
    print_text("{}", table(runs));
    if (!arguments.json.empty()) write_file_atomically(arguments.json, to_json(runs).dump(2) + "\n");
    if (!arguments.csv.empty()) write_file_atomically(arguments.csv, to_csv(runs));
    return 0;
}

}  // namespace

void add_compare_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "compare", "Loss, speed, memory, cache, kept rank and onsets of several runs in one table");
    const auto arguments = std::make_shared<CompareArguments>();
    command->add_option("runs", arguments->folders, "Run folders; other paths are passed over with a note")
        ->required()
        ->type_name("RUN...");
    command->add_option("--sort", arguments->sort, "Sort by this key of the JSON, ascending")
        ->type_name("KEY");
    command->add_option("--json", arguments->json, "Also write everything as JSON")->type_name("FILE");
    command->add_option("--csv", arguments->csv, "Also write everything as CSV")->type_name("FILE");
    command->callback([arguments, &run] { run = [arguments] { return compare(*arguments); }; });
}

}  // namespace pastur
