#include "engine/train/run_log.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "engine/io/json_text.h"
#include "engine/model/attention/variants.h"
#include "engine/model/recipe.h"
#include "engine/train/run_folder.h"
#include "engine/train/stop_request.h"
#include "kernels/base/device_info.h"

namespace pastur {
namespace {

using nlohmann::ordered_json;

double unix_time() {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double to_gib(int64_t bytes) {
    return static_cast<double>(bytes) / (1 << 30);
}

double number_or_nan(const nlohmann::json& event, const char* key) {
    const auto value = event.find(key);
    return value != event.end() && value->is_number() ? value->get<double>() : NAN;
}

/// A number and its unit with a decimal prefix: "65.5 M tokens".
std::string with_unit(double value, const char* unit) {
    if (value < 1e3) return fmt::format("{:.0f} {}", value, unit);
    if (value < 1e6) return fmt::format("{:.1f} k {}", value * 1e-3, unit);
    if (value < 1e9) return fmt::format("{:.2f} M {}", value * 1e-6, unit);
    return fmt::format("{:.3f} G {}", value * 1e-9, unit);
}

/// The settings that may differ between runs that are compared: numbers, truth values and texts of the model and its
/// training.
std::vector<Hyperparameter> hyperparameters_of(const Config& config) {
    std::vector<Hyperparameter> all;
    for (const Field& field : config_fields()) {
        const std::string section = field.section;
        if (section != "model" && section != "attention" && section != "train" && section != "data") continue;
        visit_value(field, config, [&](const auto& value) {
            using Value = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<Value, bool> || std::is_same_v<Value, std::string>)
                all.push_back({field.path(), value});
            else if constexpr (std::is_arithmetic_v<Value>)
                all.push_back({field.path(), static_cast<double>(value)});
        });
    }
    return all;
}

/// The path quoted as one word of a shell command.
std::string shell_word(const std::filesystem::path& path) {
    const std::string text = path.string();
    const auto plain = [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) ||
               std::string_view("_./-+=@:,%").find(c) != std::string::npos;
    };
    return std::all_of(text.begin(), text.end(), plain) ? text : "'" + text + "'";
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, const Config& config, Context& ctx, bool is_root)
    : folder_(folder),
      config_(config),
      ctx_(ctx),
      is_root_(is_root),
      gpu_(is_root ? pci_bus_id(ctx) : ""),
      progress_(is_root ? &Console::out() : nullptr, config.train.steps) {}

void RunLog::recall_events() {
    std::ifstream kept(metrics_path(), std::ios::binary);
    if (!kept.is_open()) fail_io("cannot open", metrics_path().string());
    for (std::string line; std::getline(kept, line);)
        if (const nlohmann::json event = parse_json(line); event.is_object()) recall(event);
    if (kept.bad()) fail_io("cannot read", metrics_path().string());
}

void RunLog::open(int64_t step) {
    if (!is_root_) return;
    truncate_after(metrics_path(), step);
    if (path_exists(metrics_path())) recall_events();
    metrics_ = std::make_unique<MetricsLog>(metrics_path());
    if (config_.run.tensorboard) tensorboard_ = std::make_unique<TensorboardLog>(folder_, step);
}

void RunLog::recall(const nlohmann::json& event) {
    const auto text = [&](const char* key) {
        const auto value = event.find(key);
        return value != event.end() && value->is_string() ? value->get<std::string>() : "";
    };
    const std::string kind = text("event");
    if (const double elapsed = number_or_nan(event, "elapsed_s"); std::isfinite(elapsed))
        elapsed_before_s_ = elapsed;
    if (kind == "val" && !event.contains("set"))
        note_validation(static_cast<int64_t>(number_or_nan(event, "step")), number_or_nan(event, "loss"));
    if (kind == "train") {
        speeds_.push_back(number_or_nan(event, "tokens_per_s"));
        if (const double clipped = number_or_nan(event, "qk_clipped"); std::isfinite(clipped))
            qk_clipped_ += static_cast<int64_t>(clipped);
    }
    if (kind == "hook" && text("status") == "ok") last_hook_ = integer_or_minus_one(event, "step");
    if (kind == "checkpoint") checkpoint_ = folder_ / text("path");
}

void RunLog::note_validation(int64_t step, double loss) {
    last_validation_ = step;
    if (!std::isfinite(loss) || loss >= best_loss_) return;
    best_loss_ = loss;
    best_step_ = step;
}

double RunLog::elapsed_s() const {
    return elapsed_before_s_ + std::chrono::duration<double>(Clock::now() - begin_).count();
}

void RunLog::write_timed(ordered_json event) {
    event["time"] = unix_time();
    event["elapsed_s"] = elapsed_s();
    write(event);
}

void RunLog::add_gpu(ordered_json& event) const {
    const GpuTelemetry::Reading reading = gpu_.read();
    if (reading.power_w) event["gpu_power_w"] = *reading.power_w;
    if (reading.sm_clock_mhz) event["gpu_clock_mhz"] = *reading.sm_clock_mhz;
    if (reading.utilisation) event["gpu_utilisation"] = *reading.utilisation;
}

void RunLog::start(const TrainState& state, const Start& start) {
    const ModelSize size = size_of_model(config_, start.model.params().table());
    flops_per_token_ = size.flops_per_token;
    peak_flops_per_s_ = start.peak_flops_per_s;
    logged_step_ = state.step;
    logged_tokens_ = state.tokens;
    describe_to_tensorboard(state.step, size.parameters, start.ranks);
    if (stop_requested(folder_) && !stop_reason(folder_).empty())
        message(fmt::format("this run will stop: {} requests it", stop_reason(folder_)));
    write_timed({{"event", "start"},
                 {"step", state.step},
                 {"resumed", start.resumed},
                 {"variant", variant_of(config_).name},
                 {"recompute", name_of(start.model.recompute())},
                 {"parameters", size.parameters},
                 {"flops_per_token", size.flops_per_token},
                 {"cache_bytes_per_token", size.cache_bytes_per_token},
                 {"device", device_name(ctx_)},
                 {"ranks", start.ranks},
                 {"planned_gib", to_gib(start.planned_bytes)}});
}

void RunLog::describe_to_tensorboard(int64_t step, int64_t parameters, int ranks) {
    if (!tensorboard_) return;
    tensorboard_->write_text(step, "config",
                             "```toml\n" + to_toml(placed_config(config_, folder_)) + "```\n");
    if (!config_.run.notes.empty()) tensorboard_->write_text(step, "notes", config_.run.notes);
    std::vector<Hyperparameter> all = hyperparameters_of(config_);
    all.push_back({"parameters", static_cast<double>(parameters)});
    all.push_back({"ranks", static_cast<double>(ranks)});
    tensorboard_->write_hyperparameters(step, all,
                                        {"val/loss", "train/loss", "perf/tokens_per_s", "perf/mfu"});
}

void RunLog::write(const ordered_json& event) {
    if (metrics_) metrics_->write(event);
}

void RunLog::draw(const std::vector<Scalar>& scalars) {
    if (tensorboard_) tensorboard_->write(scalars);
}

void RunLog::sync() {
    if (metrics_) metrics_->sync();
    if (tensorboard_) tensorboard_->sync();
}

void RunLog::add_qk_clip(ordered_json& event, const TrainState& state, const QkClip::Result& result) {
    const int64_t since_last = state.qk_clipped - qk_clipped_;
    qk_clipped_ = state.qk_clipped;
    event["max_logit"] = result.max_logit;
    event["qk_clipped"] = since_last;
    draw({{state.step, "train/max_logit", result.max_logit},
          {state.step, "train/qk_clipped", static_cast<double>(since_last)}});
}

bool RunLog::step(const TrainState& state, const TrainStep::Result& result, double lr,
                  const StepClock::Times& times) {
    const bool logged =
        state.step % config_.run.log_every == 0 || state.step == config_.train.steps || state.step == 1;
    if (!is_root_) return logged;
    // Times are means since the last logged step, and steps may differ in padding.
    const double step_tokens =
        static_cast<double>(state.tokens - logged_tokens_) / static_cast<double>(state.step - logged_step_);
    const double tokens_per_s = step_tokens / times.step_s;
    const double flops_per_s = tokens_per_s * flops_per_token_;
    const std::optional<double> mfu =
        peak_flops_per_s_ > 0 ? std::optional(flops_per_s / peak_flops_per_s_) : std::nullopt;
    progress_.step({state.step, result.loss, lr, tokens_per_s, mfu, times.step_s}, logged);
    if (!logged) return false;
    logged_step_ = state.step;
    logged_tokens_ = state.tokens;
    speeds_.push_back(tokens_per_s);
    ordered_json event = {{"event", "train"},
                          {"step", state.step},
                          {"loss", result.loss},
                          {"lr", lr},
                          {"grad_norm", result.grad_norm},
                          {"tokens", state.tokens},
                          {"tokens_per_s", tokens_per_s},
                          {"tflops", flops_per_s / 1e12},
                          {"mfu", mfu ? ordered_json(*mfu) : ordered_json()},
                          {"step_ms", times.step_s * 1e3},
                          {"data_ms", times.data_s * 1e3},
                          {"diag_ms", times.diagnostics_s * 1e3},
                          {"mem_gib", to_gib(peak_memory(ctx_))},
                          {"skipped", state.skipped}};
    if (result.qk_clip) add_qk_clip(event, state, *result.qk_clip);
    add_gpu(event);
    write_timed(std::move(event));
    draw({{state.step, "train/loss", result.loss},
          {state.step, "train/lr", lr},
          {state.step, "train/grad_norm", result.grad_norm},
          {state.step, "perf/tokens_per_s", tokens_per_s}});
    if (mfu) draw({{state.step, "perf/mfu", *mfu}});
    return true;
}

void RunLog::spectra(const Monitor::Report& report) {
    for (const std::string& message : report.messages) progress_.message(message);
    for (const std::string& change : report.changes) progress_.message(change);
    for (const ordered_json& event : report.events) write(event);
    draw(report.scalars);
}

bool RunLog::has_validation(int64_t step) const {
    return last_validation_ >= step;
}

void RunLog::validation(const TrainState& state, const Evaluation& evaluation, const std::string& set) {
    if (!is_root_) return;
    if (set.empty()) note_validation(state.step, evaluation.loss);
    message(fmt::format("step {}: validation loss{} {:.4f}, perplexity {:.2f} ({} tokens)", state.step,
                        set.empty() ? "" : " of " + set, evaluation.loss, evaluation.perplexity(),
                        evaluation.tokens));
    ordered_json event = {{"event", "val"},
                          {"step", state.step},
                          {"loss", evaluation.loss},
                          {"ppl", evaluation.perplexity()},
                          {"tokens", evaluation.tokens}};
    if (!set.empty()) event["set"] = set;
    write_timed(std::move(event));
    draw({{state.step, set.empty() ? "val/loss" : "val/" + set + "/loss", evaluation.loss}});
}

void RunLog::checkpoint(const std::optional<CheckpointWriter::Written>& written) {
    if (!written || !is_root_) return;
    checkpoint_ = written->path;
    message(fmt::format("step {}: checkpoint {} ({:.0f} ms, of which training waited {:.0f})", written->step,
                        written->path.string(), written->total_ms, written->blocking_ms));
    write_timed({{"event", "checkpoint"},
                 {"step", written->step},
                 {"path", written->path.lexically_relative(folder_).string()},
                 {"blocking_ms", written->blocking_ms},
                 {"total_ms", written->total_ms}});
}

void RunLog::hooks(const std::vector<CheckpointHook::Finished>& finished) {
    for (const CheckpointHook::Finished& hook : finished) {
        ordered_json event = {{"event", "hook"},
                              {"step", hook.step},
                              {"status", CheckpointHook::name_of(hook.status)},
                              {"seconds", hook.seconds}};
        if (hook.status == CheckpointHook::Status::kFailed) event["code"] = hook.number;
        if (hook.status == CheckpointHook::Status::kKilled) event["signal"] = hook.number;
        write_timed(std::move(event));
        if (hook.status != CheckpointHook::Status::kOk)
            message(fmt::format("warning: run.hook of step {} {}", hook.step,
                                CheckpointHook::describe(hook, folder_ / CheckpointHook::kLogFile)));
    }
}

void RunLog::end(const TrainState& state, const std::string& status, const std::string& reason) {
    if (!is_root_) return;
    const double peak_gib = to_gib(peak_memory(ctx_));
    ordered_json event = {{"event", "end"},
                          {"step", state.step},
                          {"status", status},
                          {"tokens", state.tokens},
                          {"mem_gib", peak_gib}};
    if (!reason.empty()) event["reason"] = reason;
    if (best_step_ >= 0) event.update({{"best_val", best_loss_}, {"best_val_step", best_step_}});
    write_timed(std::move(event));
    if (tensorboard_ && status != "requeue") tensorboard_->write_end(state.step, status == "done");
    sync();
    if (status == "done") say_end(state, peak_gib);
    if (status == "requeue") say_stop(state, reason);
}

void RunLog::say_end(const TrainState& state, double peak_gib) {
    std::string text =
        fmt::format("done: {} steps, {} in {}", state.step,
                    with_unit(static_cast<double>(state.tokens), "tokens"), format_duration(elapsed_s()));
    if (!speeds_.empty()) {
        const auto middle = speeds_.begin() + static_cast<int64_t>(speeds_.size() / 2);
        std::nth_element(speeds_.begin(), middle, speeds_.end());
        text += fmt::format(", median {}", with_unit(*middle, "tok/s"));
    }
    text += fmt::format(", peak memory {:.2f} GiB", peak_gib);
    if (best_step_ >= 0)
        text += fmt::format(", best validation loss {:.4f} (step {})", best_loss_, best_step_);
    if (!checkpoint_.empty()) text += ", checkpoint " + checkpoint_.string();
    message(text);
}

void RunLog::say_stop(const TrainState& state, const std::string& reason) {
    const std::string how = fmt::format("`pastur train {} --resume`", shell_word(folder_));
    const bool by_file = reason.starts_with("the file ");
    message(fmt::format("stopped after step {} of {} because of {}, checkpoint {}: {} {}", state.step,
                        config_.train.steps, reason, checkpoint_.string(),
                        by_file ? "remove that file, then continue with" : "continue with", how));
}

}  // namespace pastur
