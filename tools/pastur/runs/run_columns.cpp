#include "tools/pastur/runs/run_columns.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace pastur {
namespace {

using Number = double RunSummary::*;
using Step = int64_t RunSummary::*;

std::string or_dash(double value, const std::string& text) {
    return std::isfinite(value) ? text : "-";
}

/// A number, and behind it the step it is from.
RunColumn figure(const char* key, const char* head, Number number, int digits, Step step = nullptr) {
    return {key, head,
            [=](const RunSummary& run) {
                const std::string at = step ? fmt::format(" @{}", run.*step) : "";
                return or_dash(run.*number, fmt::format("{:.{}f}{}", run.*number, digits, at));
            },
            [=](const RunSummary& run) { return run.*number; }};
}

RunColumn share(const char* key, const char* head, Number number) {
    return {key, head,
            [=](const RunSummary& run) {
                return or_dash(run.*number, fmt::format("{:.1f} %", run.*number * 100));
            },
            [=](const RunSummary& run) { return run.*number; }};
}

RunColumn step(const char* key, const char* head, Step number) {
    return {key, head,
            [=](const RunSummary& run) { return run.*number < 0 ? "-" : std::to_string(run.*number); },
            [=](const RunSummary& run) { return run.*number < 0 ? NAN : static_cast<double>(run.*number); }};
}

RunColumn word(const char* key, const char* head, std::string RunSummary::*text) {
    return {key, head, [=](const RunSummary& run) { return run.*text; }, nullptr};
}

RunColumn cost(RunColumn column) {
    column.is_result = false;
    return column;
}

}  // namespace

const std::vector<RunColumn>& run_columns() {
    using R = RunSummary;
    static const std::vector<RunColumn> all = {
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
        cost(figure("tokens_per_s", "tokens/s", &R::tokens_per_s, 0)),
        cost(figure("mem_gib", "GiB", &R::mem_gib, 2)),
        cost(figure("elapsed_s", "seconds", &R::elapsed_s, 0)),
        share("kept_step0", "kept of step 0", &R::kept_step0),
        share("kept_null", "of product", &R::kept_null),
        figure("peak_ratio_product", "peak/product", &R::peak_ratio_product, 2, &R::spectra_step),
        figure("peak_ratio_mp", "peak/mp", &R::peak_ratio_mp, 2),
        step("spectra_step", nullptr, &R::spectra_step),
        figure("max_logit", nullptr, &R::max_logit, 2),
        figure("attention_entropy", nullptr, &R::attention_entropy, 4),
        figure("entropy_ratio", nullptr, &R::entropy_ratio, 4),
        step("spike_onset", "spike", &R::spike_onset),
        step("collapse_onset", "collapse", &R::collapse_onset),
        cost(step("resumes", "resumes", &R::resumes)),
        cost(word("status", "status", &R::status)),
    };
    return all;
}

nlohmann::ordered_json RunColumn::json(const RunSummary& run) const {
    if (!number) return text(run);
    const double value = number(run);
    if (!std::isfinite(value)) return nullptr;
    if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
    return value;
}

}  // namespace pastur
