// pastur compare: runs side by side, from what their folders say.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "data/files.h"
#include "engine/config/config.h"
#include "engine/io/json_text.h"
#include "engine/model/recipe.h"
#include "kernels/base/error.h"
#include "tools/pastur/commands.h"

namespace pastur {
namespace {

struct RunSummary {
    std::string name, variant, status = "running";
    int64_t parameters = 0, cache_bytes = 0, step = 0;
    double val_loss = NAN, train_loss = NAN;
    std::vector<double> tokens_per_s;  ///< of each logged step
    double unigram_entropy = NAN;      ///< of the validation tokens, nats
};

double number_of(const nlohmann::json& event, const char* key) {
    const auto value = event.find(key);
    return value != event.end() && value->is_number() ? value->get<double>() : NAN;
}

/// Reads one line of metrics.jsonl into the summary.
void read_event(const nlohmann::json& event, RunSummary& run) {
    const std::string kind = event.value("event", "");
    if (kind == "start") {
        run.variant = event.value("variant", "");
        run.parameters = event.value("parameters", int64_t{0});
        run.cache_bytes = event.value("cache_bytes_per_token", int64_t{0});
    } else if (kind == "train") {
        run.train_loss = number_of(event, "loss");
        run.tokens_per_s.push_back(number_of(event, "tokens_per_s"));
        run.step = event.value("step", int64_t{0});
    } else if (kind == "val") {
        run.val_loss = number_of(event, "loss");
    } else if (kind == "end") {
        run.status = event.value("status", "");
    }
}

/// The validation tokens' entropy under their own frequencies, if the run's data folder says.
double unigram_entropy_of(const std::filesystem::path& run_dir) {
    const std::filesystem::path recipe = run_dir / "config.toml";
    if (!std::filesystem::exists(recipe)) return NAN;
    const Config config = load_config(recipe.string(), {});
    const std::filesystem::path file = std::filesystem::path(config.data.dir) / "meta.json";
    const nlohmann::json meta = path_exists(file) ? parse_json(read_file(file, 16 << 20)) : nlohmann::json();
    const nlohmann::json::json_pointer entropy("/splits/val/unigram_entropy");
    return meta.is_object() && meta.contains(entropy) ? meta.at(entropy).get<double>() : NAN;
}

RunSummary summarise(const std::string& folder) {
    const std::filesystem::path metrics = std::filesystem::path(folder) / "metrics.jsonl";
    std::ifstream file(metrics);
    if (!file)
        fail(ExitCode::kMissingInput, "{}: no such file; expected a run folder of pastur train",
             metrics.string());
    RunSummary run;
    run.name = std::filesystem::path(folder).lexically_normal().filename().string();
    std::string line;
    while (std::getline(file, line)) {
        const nlohmann::json event = parse_json(line);
        if (event.is_object()) read_event(event, run);  // a killed run may leave a line cut
    }
    run.unigram_entropy = unigram_entropy_of(folder);
    return run;
}

double median(std::vector<double> values) {
    if (values.empty()) return NAN;
    const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

int compare(const std::vector<std::string>& folders) {
    fmt::print("{:<22} {:<14} {:>11} {:>7} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}  {}\n", "run", "attention",
               "parameters", "step", "train", "val loss", "val ppl", "unigram", "tokens/s", "cache B",
               "status");
    for (const std::string& folder : folders) {
        const RunSummary run = summarise(folder);
        fmt::print("{:<22} {:<14} {:>11} {:>7} {:>9.4f} {:>9.4f} {:>9.2f} {:>9.4f} {:>10.0f} {:>9}  {}\n",
                   run.name, run.variant, run.parameters, run.step, run.train_loss, run.val_loss,
                   std::exp(run.val_loss), run.unigram_entropy, median(run.tokens_per_s), run.cache_bytes,
                   run.status);
    }
    fmt::print(
        "\nLosses in nats a token. unigram: entropy of the validation tokens' frequencies, what a model that "
        "ignores "
        "context\ncan reach at best. tokens/s: median of the logged steps. cache B: bytes an inference cache "
        "holds a "
        "token, bf16.\n");
    return 0;
}

}  // namespace

void add_compare_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command =
        app.add_subcommand("compare", "Loss, speed, size and cache of several runs in one table");
    const auto folders = std::make_shared<std::vector<std::string>>();
    command->add_option("runs", *folders, "Run folders")->required()->type_name("RUN_DIR...");
    command->callback([folders, &run] { run = [folders] { return compare(*folders); }; });
}

}  // namespace pastur
