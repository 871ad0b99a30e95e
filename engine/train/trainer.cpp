#include "engine/train/trainer.h"

#include <cmath>
#include <map>
#include <optional>

#include "data/output.h"
#include "engine/config/schedule.h"
#include "engine/io/console.h"
#include "engine/model/attention/variants.h"
#include "engine/model/measure.h"
#include "engine/spectra/probe/probe.h"
#include "engine/train/checkpoint/checkpoint.h"
#include "engine/train/checkpoint/checkpoint_check.h"
#include "engine/train/environment.h"
#include "engine/train/hugging_face/hf_start.h"
#include "engine/train/run_checkpoints.h"
#include "engine/train/run_folder.h"
#include "engine/train/run_log.h"
#include "engine/train/step_profile.h"
#include "engine/train/stop_request.h"
#include "kernels/base/trace.h"

namespace pastur {
Trainer::~Trainer() = default;

Trainer::Trainer(const Config& config, Context& ctx, Comm& comm)
    : config_(config),
      ctx_(ctx),
      comm_(comm),
      micro_batches_(micro_batches_of(config, comm.size())),
      data_(config),
      setup_(config, compute_dtype(config.train, ctx), comm.rank(), comm.size(), comm.transport()) {
    data_.sign(state_);
    if (config.data.mask_documents) setup_.model().set_separator(data_.separator());
}

std::string Trainer::describe() const {
    const ModelSize size = setup_.size();
    return fmt::format(
        "{} {}: {:.2f} M parameters, {:.3f} GFLOP per token, cache {} bytes per token (bf16)\n"
        "data: {:.2f} M training tokens, {:.2f} M for validation; a step reads {} tokens ({} sequences of "
        "{}, "
        "{} micro-batch{} of {} on each of {} rank{})\n{}",
        config_.model.preset, name_of(config_.attention.variant), static_cast<double>(size.parameters) / 1e6,
        size.flops_per_token / 1e9, size.cache_bytes_per_token,
        static_cast<double>(data_.train.tokens()) / 1e6, static_cast<double>(data_.val.tokens()) / 1e6,
        config_.train.global_batch * config_.data.seq_len, config_.train.global_batch, config_.data.seq_len,
        micro_batches_, micro_batches_ == 1 ? "" : "es", config_.train.micro_batch, comm_.size(),
        comm_.size() == 1 ? "" : "s", data_.describe(config_));
}

/// Measured on one rank's device, which represents all, and once per process.
double Trainer::peak_flops_per_s() {
    if (config_.hw.peak_tflops > 0) return config_.hw.peak_tflops * 1e12;
    if (!comm_.is_root() || !is_cuda(ctx_)) return 0;
    const DType dtype = setup_.params().compute_dtype();
    // Needs three such matrices and some room; on a nearly full device MFU is unknown.
    const int64_t side = product_side(ctx_);
    if (memory_info(ctx_).free_bytes < 4 * side * side * size_of(dtype)) return 0;
    static std::map<DType, double> measured;
    const auto [peak, first] = measured.try_emplace(dtype);
    if (first) peak->second = product_flops_per_s(ctx_, dtype);
    return peak->second;
}

void Trainer::allocate() {
    peak_flops_per_s_ = peak_flops_per_s();
    const MemoryInfo memory = memory_info(ctx_);
    Model& model = setup_.model();
    MemoryPlan plan = setup_.plan(ctx_, TrainingSetup::Purpose::kRun);
    plan.settle_recompute(memory, ctx_, comm_, model);
    if (comm_.is_root())
        Console::out().write(fmt::format(
            "{}memory on {}, train.recompute = \"{}\"{}:\n{}", model.describe_kernels(), device_name(ctx_),
            name_of(model.recompute()), config_.train.recompute ? "" : " (auto)", plan.describe(memory)));
    if (comm_.is_root() && is_cuda(ctx_))
        Console::out().write(fmt::format("memory on the host:\n  {:<24}{:>12.1f} MiB\n", "checkpoint copy",
                                         static_cast<double>(setup_.checkpoint_bytes()) / (1 << 20)));
    plan.check_fits(memory, ctx_, model);
    planned_bytes_ = plan.total();
    setup_.allocate(ctx_, TrainingSetup::Purpose::kRun);
    checkpoints_->allocate(ctx_, setup_, [this](const std::string& text) { log_->message(text); });
    step_ = std::make_unique<TrainStep>(config_, ctx_, comm_, model, setup_.optimizer());
    if (measures_weights(config_.diagnostics))
        monitor_ = std::make_unique<Monitor>(ctx_, comm_, config_, setup_.params(), run_dir_ / "spectra");
    if (comm_.is_root() && measures_activations(config_.diagnostics))
        probe_ = std::make_unique<Probe>(
            ctx_, model, config_.diagnostics,
            [this](int64_t i, std::span<int32_t> out) { data_.val.sequence(i, out); }, data_.val.sequences(),
            run_dir_ / "spectra");
}

ExitCode Trainer::run(const std::filesystem::path& run_dir, bool resume, std::unique_ptr<RunOwner> owner) {
    run_dir_ = run_dir;
    owner_ = std::move(owner);
    if (comm_.is_root()) {
        if (!owner_) owner_ = std::make_unique<RunOwner>(run_dir);
        check_run_folder(run_dir, resume);
    }
    // Also a barrier: no rank looks at the folder before it is claimed.
    const int token = comm_.all_reduce_max(owner_ ? owner_->token() : 0);
    log_ = std::make_unique<RunLog>(run_dir, config_, ctx_, comm_.is_root());
    checkpoints_ = std::make_unique<RunCheckpoints>(run_dir / "checkpoints", config_, token);
    allocate();
    start_or_resume(resume);
    try {
        return train();
    } catch (const Error& error) {
        if (error.code() != ExitCode::kMissingInput) throw;
        // Inputs are open by now. What is missing is a file that this run wrote.
        fail(ExitCode::kIo, "{}", error.what());
    }
}

void Trainer::start_or_resume(bool resume) {
    const TrainState data = state_;  // fingerprints of the present data
    const auto say = [this](const std::string& text) { log_->message(text); };
    const bool restored = resume && checkpoints_->restore(ctx_, comm_, setup_, state_, say);
    if (restored) check_same_data(state_, data, data_, say);
    data_.sign(state_);
    if (!restored) initialise();
    if (profile_) log_->message(profile_->announce());
    comm_.barrier();  // every rank has read the folder before any rank writes to it
    if (comm_.is_root()) {
        open_run(restored);
        log_->start(state_, {setup_.model(), comm_.size(), restored, comm_.size() * peak_flops_per_s_,
                             planned_bytes_});
    }

    const int64_t micro_batch = config_.train.micro_batch, ranks = comm_.size(), rank = comm_.rank();
    const int64_t per_rank = config_.train.global_batch / ranks;
    const ReadSequence read = [this, micro_batch, ranks, rank](int64_t i, std::span<int32_t> out) {
        data_.train.sample(sample_of_rank(i, rank, ranks, micro_batch), out);
    };
    batches_ =
        std::make_unique<BatchStream>(read, state_.step * per_rank, micro_batches_, setup_.model().shape());
}

void Trainer::initialise() {
    if (config_.train.init_from.empty()) return setup_.params().initialise(ctx_, config_.train.seed);
    if (is_hugging_face(config_.train.init_from)) {
        for (const std::string& line :
             start_from_hugging_face(ctx_, config_.train.init_from, config_, setup_.params()))
            log_->message(line);
        return;
    }
    const std::filesystem::path checkpoint = CheckpointStore::find(config_.train.init_from);
    check_same_model(check_checkpoint(checkpoint).config, config_);
    read_checkpoint_weights(checkpoint, ctx_, setup_.params());
    log_->message(fmt::format("starting from the weights of {}", checkpoint.string()));
}

void Trainer::open_run(bool restored) {
    // A resumed run without a checkpoint starts again, so its former log is moved aside.
    const int64_t step = restored ? state_.step : -1;
    for (const std::string& difference :
         describe_run(run_dir_, config_, describe_environment(ctx_, comm_.size()), restored))
        log_->message("resumed in a different environment; results may not be bit-identical: " + difference);
    log_->open(step);
    checkpoints_->prepare(step, [this](const std::string& text) { log_->message(text); });
    if (restored && !log_->has_hook(step)) checkpoints_->hook_restored(step);
    if (monitor_) monitor_->open(step);
    if (probe_) probe_->open(step);
}

bool Trainer::stop_before_next_step(bool last) {
    constexpr std::chrono::milliseconds kBetweenPolls(100);
    if (owner_) owner_->check_last_beat();
    std::exception_ptr failure;
    const int status = comm_.all_reduce_max(clock_.data([&] {
        while (!stop_requested(run_dir_)) {
            if (last) return 0;
            if (!batches_->ready_within(kBetweenPolls)) continue;
            failure = batches_->failure();
            return failure_status(failure);
        }
        return 1;
    }));
    try {
        if (status > 1) fail_data(status, failure);
    } catch (const DataFailure& failed) {
        data_failure_ = failed;
    }
    return status > 0;
}

bool Trainer::validation_due() const {
    return state_.step == 0 || state_.step == config_.train.steps || due(config_.train.val_every);
}

bool Trainer::catch_up() {
    const bool root = comm_.is_root();
    if (!measure_spectra()) return false;
    return !validation_due() || !agreed(root && !log_->has_validation(state_.step)) || validate();
}

ExitCode Trainer::train() {
    if (!catch_up() || (state_.step < config_.train.steps && stop_before_next_step(false))) {
        save_checkpoint();
        return stop();
    }
    while (state_.step < config_.train.steps) {
        const double lr = learning_rate(config_.train, state_.step);
        clock_.begin_step();
        comm_.at_step(state_.step + 1);
        if (profile_) profile_->begin_step(state_.step + 1);
        const TrainStep::Result result = train_step(lr);
        ++state_.step;
        state_.tokens += result.tokens;
        if (result.qk_clip) state_.qk_clipped += result.qk_clip->heads_scaled;
        if (!result.updated) handle_nonfinite(result);
        const bool last = state_.step == config_.train.steps;
        bool early = stop_before_next_step(last);
        early = early || !measure_spectra();
        clock_.end_step();
        if (profile_) end_profiled_step();
        log_->checkpoint(checkpoints_->poll());
        log_->hooks(checkpoints_->poll_hooks());
        if (log_->step(state_, result, lr, clock_.means())) clock_.restart();
        early = early || (validation_due() && !validate());
        const bool asked = agreed(take_checkpoint_request());
        if (last || early || asked || due(config_.checkpoint.every)) save_checkpoint();
        if (early) return stop();
    }
    return finish("done", ExitCode::kOk);
}

ExitCode Trainer::stop() {
    if (!data_failure_) return finish("requeue", ExitCode::kRequeue);
    finish("data", data_failure_->code());
    const std::string what = data_failure_->what();
    throw DataFailure(data_failure_->code(),
                      what.empty() ? "" : fmt::format("{}; step {} has a checkpoint", what, state_.step));
}

ExitCode Trainer::finish(const std::string& status, ExitCode code) {
    report_diagnostics(/*drain=*/true);
    log_->checkpoint(checkpoints_->drain());
    finish_hooks(code);
    std::string reason;
    if (code == ExitCode::kRequeue && comm_.is_root()) {
        reason = stop_reason(run_dir_);
        if (reason.empty()) reason = "a request to another rank";
    }
    log_->end(state_, status, reason);
    return code;
}

void Trainer::finish_hooks(ExitCode code) {
    // A run that stops early is short of time: a batch system ends it, or its other ranks wait. Its hook runs again
    // when it resumes.
    constexpr std::chrono::duration<double> kDone = std::chrono::minutes(30),
                                            kStopped = std::chrono::seconds(30);
    const std::chrono::duration<double> patience(config_.train.comm_timeout_s / 2);
    const auto limit = code == ExitCode::kOk ? kDone : std::min(kStopped, patience);
    handle_interrupt_again();
    const int signals = stop_signals();
    checkpoints_->finish_hooks(
        std::chrono::duration_cast<std::chrono::milliseconds>(limit),
        [signals] { return stop_signals() > signals; },
        [this](const std::string& text) { log_->message(text); });
    log_->hooks(checkpoints_->poll_hooks());
}

void Trainer::profile(int64_t first, int64_t last) {
    profile_ = std::make_unique<StepProfile>(ctx_, first, last, config_.train.steps);
}

void Trainer::end_profiled_step() {
    const std::optional<std::string> table = profile_->end_step(state_.step);
    if (!table || !comm_.is_root()) return;
    const std::filesystem::path file = run_dir_ / "profile.txt";
    write_file_atomically(file, *table);
    log_->message(fmt::format("{}written to {}", *table, file.string()));
}

bool Trainer::measure_spectra() {
    bool complete = true;
    const TraceRange range("diagnostics");
    clock_.diagnostics([&] {
        if (Monitor::due(config_, state_.step)) {
            // After a resume the files may hold the measurement of the present step.
            if (monitor_ && agreed(comm_.is_root() && monitor_->last_step() < state_.step))
                complete = monitor_->observe(state_.step, [this] { return stop_requested(run_dir_); });
            if (complete && probe_) probe_->observe(state_.step);
        }
        report_diagnostics(/*drain=*/false);
    });
    return complete;
}

void Trainer::report_diagnostics(bool drain) {
    if (monitor_) log_->spectra(drain ? monitor_->drain() : monitor_->poll());
    if (probe_) log_->spectra(drain ? probe_->drain() : probe_->poll());
}

TrainStep::Result Trainer::train_step(double lr) {
    const TraceRange range("step");
    const auto next = [this] {
        const TraceRange waiting("data");
        return clock_.data([this] { return batches_->next(); });
    };
    const int64_t first = state_.step * config_.train.global_batch;
    return step_->run(next, state_.step, lr,
                      data_.train.sample_targets(first, first + config_.train.global_batch));
}

void Trainer::handle_nonfinite(const TrainStep::Result& result) {
    ++state_.skipped;
    if (config_.train.nonfinite == OnNonfinite::kSkip) return;
    const std::string where = diagnose_nonfinite();
    finish("nonfinite", ExitCode::kNonFinite);
    comm_.barrier();  // no rank ends the job before rank 0 has written the end of its log
    fail(ExitCode::kNonFinite,
         "lower train.lr, set train.grad_clip or train.nonfinite = \"skip\": step {}: loss {}, gradient norm "
         "{}: "
         "{}; the weights are those of the step before",
         state_.step, result.loss, result.grad_norm, where);
}

std::string Trainer::first_nonfinite(Tensor flat) {
    if (std::isfinite(step_->sum_of_squares_of(flat))) return "";
    for (const Param& param : setup_.params().table().params())
        if (!std::isfinite(step_->sum_of_squares_of(flat.slice(0, param.offset, param.stored()))))
            return param.name;
    return "";  // every tensor is finite, but the sum of squares is not
}

std::string Trainer::diagnose_nonfinite() {
    step_->sync().share_gradients();
    const std::string weight = first_nonfinite(setup_.params().flat_master());
    if (!weight.empty()) return fmt::format("weight {} is not finite", weight);
    const std::string gradient = first_nonfinite(setup_.params().flat_grad());
    if (!gradient.empty()) return fmt::format("first non-finite gradient is {}'s", gradient);
    return "every gradient is finite, but the loss or the fp32 sum of squared gradients is not";
}

bool Trainer::validate() try {
    const TraceRange range("validation");
    const auto measure = [this](const TokenLoader& data) {
        return evaluate(ctx_, comm_, setup_.model(), step_->batch(), data, config_.train.val_tokens,
                        [this] { return stop_requested(run_dir_); });
    };
    // Nothing is logged before all sets are measured, and the default set last: it stands for all of them.
    std::vector<Evaluation> named;
    for (const TrainingData::NamedLoader& set : data_.val_sets) {
        const std::optional<Evaluation> evaluation = measure(set.loader);
        if (!evaluation) return false;
        named.push_back(*evaluation);
    }
    const std::optional<Evaluation> evaluation = measure(data_.val);
    if (!evaluation) return false;
    for (size_t i = 0; i < named.size(); ++i) log_->validation(state_, named[i], data_.val_sets[i].name);
    log_->validation(state_, *evaluation);
    return true;
} catch (const DataFailure& failed) {
    data_failure_ = failed;
    return false;
}

void Trainer::save_checkpoint() {
    const TraceRange range("checkpoint");
    // Spectra and events are durable before the checkpoint is, because a resumed run does not write them
    // again.
    if (owner_) owner_->check();
    report_diagnostics(/*drain=*/true);
    // No step may have read some weights since they became non-finite, such as the embedding of a rare token.
    const std::string weight = first_nonfinite(setup_.params().flat_master());
    const auto begin = RunCheckpoints::Clock::now();
    log_->checkpoint(checkpoints_->drain());
    if (!weight.empty()) {
        comm_.barrier();  // no rank ends the job while another writes the checkpoint before
        fail(ExitCode::kNonFinite, "step {}: weight {} is not finite, so no checkpoint was written",
             state_.step, weight);
    }
    log_->sync();
    checkpoints_->save(ctx_, comm_, setup_, state_, begin);
    comm_.barrier();
}

}  // namespace pastur
