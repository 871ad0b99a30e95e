#include "tools/pastur/runs/run_summary.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/model/measure.h"
#include "engine/model/recipe.h"
#include "engine/spectra/summary_lines.h"
#include "kernels/base/error.h"
#include "tools/pastur/report/report_run.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A run that has not logged for so long and has no end did not end by itself.
constexpr std::chrono::minutes kSilence(10);

int64_t step_of(const json& event, const char* key = "step") {
    const double step = number_of(event, key);
    return std::isfinite(step) ? static_cast<int64_t>(step) : -1;
}

std::string text_of(const json& event, const char* key) {
    const auto value = event.find(key);
    return value != event.end() && value->is_string() ? value->get<std::string>() : "";
}

/// Reads metrics.jsonl, line by line.
class LogReader {
  public:
    explicit LogReader(RunSummary& run) : run_(run) {}

    void read(const json& event) {
        const std::string kind = text_of(event, "event");
        if (kind == "start") start(event);
        if (kind == "train") train(event);
        if (kind == "val" && !event.contains("set")) validation(event);  // of the default set
        if (kind == "spike") onset(run_.spike_onset, event);
        if (kind == "collapse") onset(run_.collapse_onset, event);
        if (kind == "end") run_.status = text_of(event, "status");
        if (const double elapsed = number_of(event, "elapsed_s"); std::isfinite(elapsed))
            run_.elapsed_s = elapsed;
    }
    void finish() {
        if (!speeds_.empty()) run_.tokens_per_s = quantile(speeds_, 0.5);
    }

  private:
    void start(const json& event) {
        run_.status.clear();
        run_.resumes += event.value("resumed", false) ? 1 : 0;
        run_.variant = text_of(event, "variant");
        run_.parameters = number_of(event, "parameters");
        run_.cache_bytes_per_token = number_of(event, "cache_bytes_per_token");
        run_.step = std::max(run_.step, step_of(event));
    }
    void train(const json& event) {
        run_.step = step_of(event);
        run_.train_loss = number_of(event, "loss");
        run_.mem_gib = number_of(event, "mem_gib");
        if (const double speed = number_of(event, "tokens_per_s"); std::isfinite(speed))
            speeds_.push_back(speed);
    }
    void validation(const json& event) {
        run_.val_step = step_of(event);
        run_.val_loss = number_of(event, "loss");
        if (!std::isfinite(run_.val_loss) || run_.val_loss >= run_.best_val) return;
        run_.best_val = run_.val_loss;
        run_.best_val_step = run_.val_step;
    }
    static void onset(int64_t& earliest, const json& event) {
        const int64_t step = event.contains("onset") ? step_of(event, "onset") : step_of(event);
        if (step >= 0 && (earliest < 0 || step < earliest)) earliest = step;
    }

    RunSummary& run_;
    std::vector<double> speeds_;
};

/// Reads spectra/summary.jsonl, whose steps ascend.
class SpectraReader {
  public:
    explicit SpectraReader(RunSummary& run) : run_(run) {}

    /// A line of any matrix. Only those of "qk" are worth a copy for each null.
    void read(const json& line) {
        if (text_of(line, "matrix") == "qk")
            for_each_null(line, [this](const json& record) { read_null(record); });
    }
    void finish() {
        const Forms& forms = layers_.kept_step0.empty() ? heads_ : layers_;
        run_.kept_step0 = mean(forms.kept_step0);
        run_.kept_null = mean(forms.kept_null);
        run_.peak_ratio_product = forms.peak_product;
        run_.peak_ratio_mp = forms.peak_mp;
    }

  private:
    void read_null(const json& record) {
        const int64_t step = step_of(record), layer = step_of(record, "layer"),
                      head = step_of(record, "head");
        const double stable_rank = number_of(record, "stable_rank");
        if (step != run_.spectra_step) layers_ = heads_ = {};
        run_.spectra_step = step;
        const auto initial = initial_.try_emplace({layer, head}, stable_rank).first;
        Forms& forms = head < 0 ? layers_ : heads_;
        const std::string null = text_of(record, "null");
        const double stored = number_of(record, "kept_step0");
        forms.kept_step0[{layer, head}] = std::isfinite(stored) ? stored : stable_rank / initial->second;
        if (const double kept = number_of(record, "kept_null"); std::isfinite(kept))
            forms.kept_null[{layer, head}] = kept;
        const double ratio = number_of(record, "lambda_max") / number_of(record, "lambda_plus");
        double& peak = null == "mp" ? forms.peak_mp : forms.peak_product;
        if ((null == "mp" || null == "product") && !(ratio <= peak)) peak = ratio;
    }
    using Values = std::map<std::pair<int64_t, int64_t>, double>;  ///< by layer and head
    struct Forms {
        Values kept_step0, kept_null;
        double peak_product = NAN, peak_mp = NAN;
    };
    static double mean(const Values& values) {
        double sum = 0;
        for (const auto& [form, value] : values) sum += value;
        return values.empty() ? NAN : sum / static_cast<double>(values.size());
    }

    RunSummary& run_;
    Values initial_;
    Forms layers_, heads_;  ///< at run_.spectra_step
};

/// Reads spectra/logits.jsonl, whose steps ascend.
class LogitsReader {
  public:
    explicit LogitsReader(RunSummary& run) : run_(run) {}

    void read(const json& record) {
        const int64_t step = step_of(record);
        if (step != step_) {
            run_.max_logit = -INFINITY;
            entropy_ = ratio_ = heads_ = 0;
        }
        step_ = step;
        const double largest = number_of(record, "max_logit");
        if (!(largest <= run_.max_logit)) run_.max_logit = largest;  // a NaN stays
        entropy_ += number_of(record, "entropy");
        ratio_ += number_of(record, "entropy_ratio");
        heads_ += 1;
    }
    void finish() {
        run_.attention_entropy = entropy_ / heads_;
        run_.entropy_ratio = ratio_ / heads_;
    }

  private:
    RunSummary& run_;
    int64_t step_ = -1;
    double entropy_ = 0, ratio_ = 0, heads_ = 0;
};

/// The validation tokens' entropy under their own frequencies, if the run's data folder says.
double unigram_entropy_of(const Config& config) {
    if (config.data.dir.empty()) return NAN;  // shards by name, or a mixture
    const fs::path file = fs::path(config.data.dir) / "meta.json";
    const json meta = path_exists(file) ? parse_json(read_file(file, 16 << 20)) : json();
    const json::json_pointer entropy("/splits/val/unigram_entropy");
    const bool known = meta.is_object() && meta.contains(entropy) && meta.at(entropy).is_number();
    return known ? meta.at(entropy).get<double>() : NAN;
}

void read_recipe(const fs::path& file, RunSummary& run) {
    try {
        const Config config = load_config(file.string(), {});
        run.steps = config.train.steps;
        run.unigram_entropy = unigram_entropy_of(config);
    } catch (const Error&) {
        // A recipe of another version: the run's log is worth comparing without it.
    }
}

}  // namespace

bool is_silent(const fs::path& log) {
    std::error_code error;
    const fs::file_time_type written = fs::last_write_time(log, error);
    return !error && fs::file_time_type::clock::now() - written > kSilence;
}

bool has_run_log(const fs::path& folder) {
    std::error_code ignored;
    return fs::is_regular_file(folder / "metrics.jsonl", ignored);
}

RunSummary summarise_run(const fs::path& folder, const std::function<void(const json&)>& use_spectrum) {
    const fs::path log = folder / "metrics.jsonl", recipe = folder / "config.toml";
    if (!has_run_log(folder))
        fail(ExitCode::kMissingInput, "{}: expected a run folder of pastur train, with a metrics.jsonl",
             folder.string());
    RunSummary run;
    run.name = run_name(folder);
    LogReader events(run);
    read_json_lines(log, [&](const json& event) { events.read(event); });
    events.finish();
    if (run.status.empty()) run.status = is_silent(log) ? "died" : "running";
    SpectraReader spectra(run);
    read_json_lines(folder / "spectra" / "summary.jsonl", [&](const json& line) {
        spectra.read(line);
        if (use_spectrum) use_spectrum(line);
    });
    spectra.finish();
    LogitsReader logits(run);
    read_json_lines(folder / "spectra" / "logits.jsonl", [&](const json& record) { logits.read(record); });
    logits.finish();
    if (path_exists(recipe)) read_recipe(recipe, run);
    return run;
}

}  // namespace pastur
