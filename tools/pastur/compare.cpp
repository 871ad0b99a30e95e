// pastur compare: runs side by side, from what their folders say.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/config/nearest_name.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/print.h"
#include "tools/pastur/run_summary.h"

namespace pastur {
namespace {

struct CompareArguments {
    std::vector<std::string> folders;
    std::string json, csv, sort;
};

/// A figure of a run: its key in JSON, CSV and --sort, and its column in the table.
struct Column {
    const char* key;
    const char* head;  ///< null: only in JSON and CSV
    std::function<std::string(const RunSummary&)> text;
    std::function<double(const RunSummary&)> number;  ///< null: text() is the value
};

using Number = double RunSummary::*;
using Step = int64_t RunSummary::*;

std::string or_dash(double value, const std::string& text) {
    return std::isfinite(value) ? text : "-";
}

/// A number, and behind it the step it is from.
Column figure(const char* key, const char* head, Number number, int digits, Step step = nullptr) {
    return {key, head,
            [=](const RunSummary& run) {
                const std::string at = step ? fmt::format(" @{}", run.*step) : "";
                return or_dash(run.*number, fmt::format("{:.{}f}{}", run.*number, digits, at));
            },
            [=](const RunSummary& run) { return run.*number; }};
}

Column share(const char* key, const char* head, Number number) {
    return {key, head,
            [=](const RunSummary& run) {
                return or_dash(run.*number, fmt::format("{:.1f} %", run.*number * 100));
            },
            [=](const RunSummary& run) { return run.*number; }};
}

Column step(const char* key, const char* head, Step number) {
    return {key, head,
            [=](const RunSummary& run) { return run.*number < 0 ? "-" : std::to_string(run.*number); },
            [=](const RunSummary& run) { return run.*number < 0 ? NAN : static_cast<double>(run.*number); }};
}

Column word(const char* key, const char* head, std::string RunSummary::*text) {
    return {key, head, [=](const RunSummary& run) { return run.*text; }, nullptr};
}

const std::vector<Column>& columns() {
    using R = RunSummary;
    static const std::vector<Column> all = {
        word("run", "run", &R::name),
        word("variant", "attention", &R::variant),
        figure("parameters", "parameters", &R::parameters, 0),
        figure("cache_bytes_per_token", "cache B", &R::cache_bytes_per_token, 0),
        step("step", "step", &R::step),
        step("steps", "of", &R::steps),
        figure("train_loss", "train", &R::train_loss, 4, &R::step),
        figure("val_loss", "val", &R::val_loss, 4, &R::val_step),
        step("val_step", nullptr, &R::val_step),
        {"val_ppl", "ppl",
         [](const R& run) { return or_dash(run.val_loss, fmt::format("{:.2f}", std::exp(run.val_loss))); },
         [](const R& run) { return std::exp(run.val_loss); }},
        figure("best_val", "best val", &R::best_val, 4, &R::best_val_step),
        step("best_val_step", nullptr, &R::best_val_step),
        figure("unigram_entropy", "unigram", &R::unigram_entropy, 4),
        figure("tokens_per_s", "tokens/s", &R::tokens_per_s, 0),
        figure("mem_gib", "GiB", &R::mem_gib, 2),
        figure("elapsed_s", "seconds", &R::elapsed_s, 0),
        share("kept_step0", "kept of step 0", &R::kept_step0),
        share("kept_null", "of product", &R::kept_null),
        figure("peak_ratio_product", "peak/product", &R::peak_ratio_product, 2, &R::spectra_step),
        figure("peak_ratio_mp", "peak/mp", &R::peak_ratio_mp, 2),
        step("spectra_step", nullptr, &R::spectra_step),
        step("spike_onset", "spike", &R::spike_onset),
        step("collapse_onset", "collapse", &R::collapse_onset),
        step("resumes", "resumes", &R::resumes),
        word("status", "status", &R::status),
    };
    return all;
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
        for (const Column& column : columns()) {
            const double number = column.number ? column.number(run) : 0;
            const bool whole = number == std::floor(number) && std::abs(number) < 1e15;
            if (!column.number)
                one[column.key] = column.text(run);
            else if (!std::isfinite(number))
                one[column.key] = nullptr;
            else if (whole)
                one[column.key] = static_cast<int64_t>(number);
            else
                one[column.key] = number;
        }
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
        else
            print_note("pastur: {} is passed over: not a run folder (no metrics.jsonl in it)\n",
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
