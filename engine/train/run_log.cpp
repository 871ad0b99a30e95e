#include "engine/train/run_log.h"

#include <nlohmann/json.hpp>

namespace pastur {

RunLog::RunLog(const std::filesystem::path& folder, const Config& config, bool is_root)
    : folder_(folder),
      config_(config),
      is_root_(is_root),
      progress_(is_root ? &Console::out() : nullptr, config.train.steps) {}

void RunLog::open(int64_t step) {
    if (!is_root_) return;
    truncate_after(metrics_path(), step);
    metrics_ = std::make_unique<MetricsLog>(metrics_path());
    if (config_.run.tensorboard) tensorboard_ = std::make_unique<TensorboardLog>(folder_, step);
}

void RunLog::start(const TrainState& state, const Start& start) {
    const ModelSize size = size_of_model(config_, start.model.params().table());
    flops_per_token_ = size.flops_per_token;
    peak_flops_per_s_ = start.peak_flops_per_s;
    memory_gib_ = start.memory_gib;
    write({{"event", "start"},
           {"step", state.step},
           {"resumed", start.resumed},
           {"variant", config_.attention.variant},
           {"recompute", name_of(start.model.recompute())},
           {"parameters", size.parameters},
           {"flops_per_token", size.flops_per_token},
           {"cache_bytes_per_token", size.cache_bytes_per_token},
           {"device", start.device},
           {"ranks", start.ranks}});
}

void RunLog::write(const nlohmann::ordered_json& event) {
    if (metrics_) metrics_->write(event);
}

void RunLog::draw(const std::vector<Scalar>& scalars) {
    if (tensorboard_) tensorboard_->write(scalars);
}

void RunLog::sync() {
    if (metrics_) metrics_->sync();
    if (tensorboard_) tensorboard_->sync();
}

bool RunLog::step(const TrainState& state, const TrainStep::Result& result, double lr,
                  const StepClock::Times& times) {
    const auto step_tokens = static_cast<double>(config_.train.global_batch * config_.data.seq_len);
    const double tokens_per_s = step_tokens / times.step_s;
    const double flops_per_s = tokens_per_s * flops_per_token_;
    const std::optional<double> mfu =
        peak_flops_per_s_ > 0 ? std::optional(flops_per_s / peak_flops_per_s_) : std::nullopt;
    const bool logged =
        state.step % config_.run.log_every == 0 || state.step == config_.train.steps || state.step == 1;
    progress_.step({state.step, result.loss, lr, tokens_per_s, mfu, times.step_s}, logged);
    if (!logged) return false;
    write({{"event", "train"},
           {"step", state.step},
           {"loss", result.loss},
           {"lr", lr},
           {"grad_norm", result.grad_norm},
           {"tokens", state.tokens},
           {"tokens_per_s", tokens_per_s},
           {"tflops", flops_per_s / 1e12},
           {"mfu", mfu ? nlohmann::ordered_json(*mfu) : nlohmann::ordered_json()},
           {"step_ms", times.step_s * 1e3},
           {"data_ms", times.data_s * 1e3},
           {"diag_ms", times.diagnostics_s * 1e3},
           {"mem_gib", memory_gib_},
           {"skipped", state.skipped}});
    draw({{state.step, "train/loss", result.loss},
          {state.step, "train/lr", lr},
          {state.step, "train/grad_norm", result.grad_norm},
          {state.step, "perf/tokens_per_s", tokens_per_s}});
    if (mfu) draw({{state.step, "perf/mfu", *mfu}});
    return true;
}

void RunLog::spectra(const Monitor::Report& report) {
    for (const std::string& message : report.messages) progress_.message(message);
    for (const nlohmann::ordered_json& event : report.events) {
        progress_.message(describe_event(event));
        write(event);
    }
    draw(report.scalars);
}

bool RunLog::has_validation(int64_t step) const {
    return is_root_ && last_step_of(metrics_path(), "val") >= step;
}

void RunLog::validation(const TrainState& state, const Evaluation& evaluation) {
    progress_.message(fmt::format("step {}: validation loss {:.4f}, perplexity {:.2f} ({} tokens)",
                                  state.step, evaluation.loss, evaluation.perplexity(), evaluation.tokens));
    write({{"event", "val"},
           {"step", state.step},
           {"loss", evaluation.loss},
           {"ppl", evaluation.perplexity()},
           {"tokens", evaluation.tokens}});
    draw({{state.step, "val/loss", evaluation.loss}});
}

void RunLog::checkpoint(const std::optional<CheckpointWriter::Written>& written) {
    if (!written) return;
    write({{"event", "checkpoint"},
           {"step", written->step},
           {"path", written->path.lexically_relative(folder_).string()},
           {"blocking_ms", written->blocking_ms},
           {"total_ms", written->total_ms}});
}

void RunLog::end(const TrainState& state, const std::string& status) {
    write({{"event", "end"}, {"step", state.step}, {"status", status}, {"tokens", state.tokens}});
    sync();
}

}  // namespace pastur
