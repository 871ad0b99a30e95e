#include "engine/train/run_folder.h"

#include <nlohmann/json.hpp>

#include "data/output.h"
#include "engine/model/recipe.h"
#include "engine/model/variants.h"
#include "engine/train/checkpoint.h"
#include "engine/train/environment.h"

namespace pastur {

RunFolder::RunFolder(const std::filesystem::path& path, const Config& config, bool is_root)
    : path_(path),
      config_(config),
      is_root_(is_root),
      checkpoints_(path / "checkpoints", config.checkpoint.keep),
      writer_(checkpoints_, config),
      progress_(is_root ? &Console::out() : nullptr, config.train.steps) {}

void RunFolder::allocate(Context& ctx, const Parameters& params, const AdamW& optimizer, const Comm& comm) {
    if (!writer_.allocate(ctx, params, optimizer, comm.rank(), comm.size()))
        progress_.message(fmt::format(
            "no page-locked memory for the copy that checkpoints are written from ({:.1f} MiB): training "
            "waits longer for each",
            static_cast<double>(CheckpointImage::planned_bytes(params, optimizer, comm.rank())) / (1 << 20)));
}

bool RunFolder::restore(Context& ctx, Parameters& params, AdamW& optimizer, TrainState& state) {
    resuming_ = true;
    std::vector<std::string> warnings;
    const auto checkpoint = checkpoints_.newest_intact(warnings);
    for (const std::string& warning : warnings) progress_.message(warning);
    if (!checkpoint) {
        progress_.message("no checkpoint to resume from: beginning at step 0");
        return false;
    }
    const Config before = read_checkpoint_config(checkpoint->path);
    check_same_run(before, config_);
    if (before.train.micro_batch != config_.train.micro_batch)
        progress_.message(
            fmt::format("micro-batches were of {} sequences and are of {}: gradients add up in another "
                        "order, bits may differ",
                        before.train.micro_batch, config_.train.micro_batch));
    read_checkpoint_files(checkpoint->path, ctx, params, optimizer, state);
    progress_.message(fmt::format("resuming after step {} from {}", state.step, checkpoint->path.string()));
    return true;
}

void RunFolder::start(Context& ctx, int ranks, bool restored, const TrainState& state, const Model& model,
                      double peak_flops_per_s) {
    peak_flops_per_s_ = peak_flops_per_s;
    size_ = size_of_model(config_, model.params().table());
    const MemoryInfo memory = memory_info(ctx);
    memory_gib_ = static_cast<double>(memory.total_bytes - memory.free_bytes) / (1 << 30);
    if (!is_root_) return;
    if (!resuming_ && std::filesystem::exists(metrics_path()))
        fail(ExitCode::kUsage, "{} already holds a run: give --resume to go on with it, or another --run",
             path_.string());
    make_folders(path_);
    const nlohmann::json environment = describe_environment(ctx, ranks);
    if (restored) {
        for (const std::string& line :
             compare_environments(read_environment(path_ / "env.json"), environment))
            progress_.message("this is not where the run was before, bits may differ: " + line);
    }
    // Without a checkpoint the run begins again, and what it said before belongs to no step of it.
    truncate_after(metrics_path(), restored ? state.step : -1);
    checkpoints_.prepare(restored ? state.step : -1);
    write_file_atomically(path_ / "config.toml", to_toml(config_));
    write_environment(path_ / "env.json", environment);
    metrics_ = std::make_unique<MetricsLog>(metrics_path());
    if (config_.run.tensorboard)
        tensorboard_ = std::make_unique<TensorboardLog>(path_, restored ? state.step : -1);
    write({{"event", "start"},
           {"step", state.step},
           {"resumed", restored},
           {"variant", name_of(config_.attention.variant)},
           {"recompute", name_of(model.recompute())},
           {"parameters", size_.parameters},
           {"flops_per_token", size_.flops_per_token},
           {"cache_bytes_per_token", size_.cache_bytes_per_token},
           {"device", device_name(ctx)},
           {"ranks", ranks}});
}

void RunFolder::write(const nlohmann::ordered_json& event) {
    if (metrics_) metrics_->write(event);
}

void RunFolder::draw(const std::vector<Scalar>& scalars) {
    if (tensorboard_) tensorboard_->write(scalars);
}

void RunFolder::sync_logs() {
    if (metrics_) metrics_->sync();
    if (tensorboard_) tensorboard_->sync();
}

void RunFolder::begin_step() {
    step_begin_ = Clock::now();
    data_seconds_ = diagnostics_seconds_ = 0;
}

void RunFolder::log_step(const TrainState& state, double loss, double grad_norm, double lr) {
    log_checkpoint(writer_.poll());
    window_seconds_ += seconds_since(step_begin_);
    window_data_seconds_ += data_seconds_;
    window_diagnostics_seconds_ += diagnostics_seconds_;
    ++window_steps_;
    const double step_seconds = window_seconds_ / static_cast<double>(window_steps_);
    const auto step_tokens = static_cast<double>(config_.train.global_batch * config_.data.seq_len);
    const double tokens_per_s = step_tokens / step_seconds;
    const double flops_per_s = tokens_per_s * size_.flops_per_token;
    const std::optional<double> mfu =
        peak_flops_per_s_ > 0 ? std::optional(flops_per_s / peak_flops_per_s_) : std::nullopt;
    const bool logged =
        state.step % config_.run.log_every == 0 || state.step == config_.train.steps || state.step == 1;
    progress_.step({state.step, loss, lr, tokens_per_s, mfu, step_seconds}, logged);
    if (!logged) return;
    write({{"event", "train"},
           {"step", state.step},
           {"loss", loss},
           {"lr", lr},
           {"grad_norm", grad_norm},
           {"tokens", state.tokens},
           {"tokens_per_s", tokens_per_s},
           {"tflops", flops_per_s / 1e12},
           {"mfu", mfu ? nlohmann::ordered_json(*mfu) : nlohmann::ordered_json()},
           {"step_ms", step_seconds * 1e3},
           {"data_ms", window_data_seconds_ / static_cast<double>(window_steps_) * 1e3},
           {"diag_ms", window_diagnostics_seconds_ / static_cast<double>(window_steps_) * 1e3},
           {"mem_gib", memory_gib_},
           {"skipped", state.skipped}});
    draw({{state.step, "train/loss", loss},
          {state.step, "train/lr", lr},
          {state.step, "train/grad_norm", grad_norm},
          {state.step, "perf/tokens_per_s", tokens_per_s}});
    if (mfu) draw({{state.step, "perf/mfu", *mfu}});
    window_seconds_ = window_data_seconds_ = window_diagnostics_seconds_ = 0;
    window_steps_ = 0;
}

void RunFolder::log_spectra(const Monitor::Report& report) {
    for (const std::string& message : report.messages) progress_.message(message);
    for (const nlohmann::ordered_json& event : report.events) {
        progress_.message(describe_event(event));
        write(event);
    }
    draw(report.scalars);
}

bool RunFolder::has_validation(int64_t step) const {
    return is_root_ && last_step_of(metrics_path(), "val") >= step;
}

void RunFolder::log_validation(const TrainState& state, const Evaluation& evaluation) {
    progress_.message(fmt::format("step {}: validation loss {:.4f}, perplexity {:.2f} ({} tokens)",
                                  state.step, evaluation.loss, evaluation.perplexity(), evaluation.tokens));
    write({{"event", "val"},
           {"step", state.step},
           {"loss", evaluation.loss},
           {"ppl", evaluation.perplexity()},
           {"tokens", evaluation.tokens}});
    draw({{state.step, "val/loss", evaluation.loss}});
}

void RunFolder::save(Context& ctx, Comm& comm, const Parameters& params, const AdamW& optimizer,
                     const TrainState& state) {
    const bool divided = !optimizer.owns_all();
    if (!is_root_ && !divided) return;
    const auto begin = Clock::now();
    log_checkpoint(writer_.drain());
    // A resumed run does not say again what it said before.
    sync_logs();
    if (divided) {
        if (is_root_) checkpoints_.begin(state.step);
        comm.barrier();  // the folder is there for all
    }
    writer_.start(ctx, params, optimizer, state, begin);
}

void RunFolder::log_checkpoint(const std::optional<CheckpointWriter::Written>& written) {
    if (!written) return;
    write({{"event", "checkpoint"},
           {"step", written->step},
           {"path", written->path.lexically_relative(path_).string()},
           {"blocking_ms", written->blocking_ms},
           {"total_ms", written->total_ms}});
}

void RunFolder::finish(const TrainState& state, const std::string& status) {
    log_checkpoint(writer_.drain());
    write({{"event", "end"}, {"step", state.step}, {"status", status}, {"tokens", state.tokens}});
    sync_logs();
}

}  // namespace pastur
