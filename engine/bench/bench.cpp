#include "engine/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "engine/model/measure.h"
#include "engine/train/train_step.h"
#include "engine/train/training_setup.h"
#include "kernels/base/device_info.h"
#include "kernels/fill.h"

namespace pastur {
namespace {

/// Most memory that the process has held since construction: on a device beyond what it held then, on the CPU all of
/// it.
class PeakMemory {
  public:
    explicit PeakMemory(Context& ctx) : ctx_(ctx) {
        reserve_scratch(ctx, 0);  // scratch of an earlier measurement would go uncounted
        reset_peak_memory(ctx);
        if (is_cuda(ctx)) before_ = peak_memory(ctx);
    }
    int64_t bytes() { return peak_memory(ctx_) - before_; }

  private:
    Context& ctx_;
    int64_t before_ = 0;
};

ReadSequence random_sequences(const Config& config) {
    return [seed = config.train.seed, vocab = config.model.vocab](int64_t i, std::span<int32_t> out) {
        const auto ids = random_ids(seed, static_cast<uint64_t>(i), static_cast<int64_t>(out.size()), vocab);
        std::copy(ids.begin(), ids.end(), out.begin());
    };
}

/// Batches generated in advance and handed out in turn.
class RandomBatches {
  public:
    RandomBatches(const Config& config, const BatchShape& shape) {
        const ReadSequence read = random_sequences(config);
        for (int64_t i = 0; i < kCount; ++i) batches_.push_back(read_batch(read, i * shape.batch, shape));
    }
    TokenBatch next() { return batches_[next_++ % batches_.size()]; }

  private:
    static constexpr int64_t kCount = 8;
    std::vector<TokenBatch> batches_;
    size_t next_ = 0;
};

/// The model being trained.
class Subject {
  public:
    Subject(Context& ctx, const Config& config)
        : config_(config),
          ctx_(ctx),
          comm_(make_single_comm()),
          setup_(config, compute_dtype(config.train, ctx)),
          batches_(config, setup_.model().shape()) {
        using Purpose = TrainingSetup::Purpose;
        const MemoryInfo memory = memory_info(ctx);
        MemoryPlan plan = setup_.plan(ctx, Purpose::kSteps);
        plan.settle_recompute(memory, ctx, *comm_, setup_.model());
        plan.check_fits(memory, ctx, setup_.model());
        planned_bytes_ = plan.total();
        setup_.allocate(ctx, Purpose::kSteps);
        step_ = std::make_unique<TrainStep>(config, ctx, *comm_, setup_.model(), setup_.optimizer());
        setup_.params().initialise(ctx, config.train.seed);
    }

    ModelSize size() const { return setup_.size(); }
    std::string kernels() { return setup_.model().describe_kernels(); }
    Recompute recompute() { return setup_.model().recompute(); }
    int64_t planned_bytes() const { return planned_bytes_; }
    /// Runs a step and returns its loss.
    double step() {
        const auto result = step_->run([this] { return batches_.next(); }, done_, config_.train.lr);
        if (!result.updated)
            fail(ExitCode::kNonFinite, "lower train.lr: bench diverged in step {}, loss {}, gradient norm {}",
                 done_, result.loss, result.grad_norm);
        ++done_;
        return result.loss;
    }

    DiagnosticsCost measure_diagnostics(double step_seconds, std::vector<double>& losses) {
        return pastur::measure_diagnostics(ctx_, *comm_, config_, setup_.params(), step_seconds,
                                           [&] { losses.push_back(step()); });
    }
    std::vector<ScopeCost> measure_probe() {
        return pastur::measure_probe(ctx_, setup_.model(), config_.diagnostics, random_sequences(config_));
    }

  private:
    Config config_;
    Context& ctx_;
    std::unique_ptr<Comm> comm_;
    TrainingSetup setup_;
    RandomBatches batches_;
    std::unique_ptr<TrainStep> step_;
    int64_t planned_bytes_ = 0, done_ = 0;
};

/// The step of median length of `count` steps under an OpTimer.
StepParts take_apart(Context& ctx, Subject& subject, int64_t count, std::vector<double>& losses) {
    std::vector<StepParts> steps;
    OpTimer timer(ctx);
    for (int64_t i = 0; i < count; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        losses.push_back(subject.step());
        const double seconds = seconds_since(begin);
        steps.push_back({seconds, timer.collect()});
    }
    const auto middle = steps.begin() + count / 2;
    std::nth_element(steps.begin(), middle, steps.end(),
                     [](const StepParts& a, const StepParts& b) { return a.seconds < b.seconds; });
    return *middle;
}

}  // namespace

Ceilings measure_ceilings(Context& ctx, DType dtype) {
    const int64_t bytes = int64_t{1} << (is_cuda(ctx) ? 31 : 27);
    Ceilings ceilings{};
    ceilings.product = fmt::format("{0} {1} x {1} x {1}", name_of(dtype), product_side(ctx));
    ceilings.copy = fmt::format("{} MiB", bytes >> 20);
    if (is_cuda(ctx)) ceilings.rested_flops_per_s = product_flops_per_s(ctx, dtype, rested_seconds);
    ceilings.flops_per_s = product_flops_per_s(ctx, dtype);
    TensorPool pool(ctx, 1);
    const Tensor from = pool.constant(DType::kF32, {bytes / 4}, 1),
                 to = pool.constant(DType::kF32, {bytes / 4}, 0);
    ceilings.bytes_per_s =
        2.0 * static_cast<double>(bytes) / median_seconds(ctx, [&] { copy(ctx, to, from); });
    return ceilings;
}

double StepParts::other() const {
    double rest = seconds;
    for (const OpTotal& family : families) rest -= family.seconds;
    return rest;
}

double VariantBench::median() const {
    return quantile(step_seconds, 0.5);
}
double VariantBench::p95() const {
    return quantile(step_seconds, 0.95);
}
double VariantBench::tokens_per_s() const {
    return static_cast<double>(tokens) / median();
}
double VariantBench::flops_per_s() const {
    return tokens_per_s() * size.flops_per_token;
}

VariantBench bench_variant(Context& ctx, const Config& config, const BenchOptions& options) {
    PeakMemory peak(ctx);
    Subject subject(ctx, config);
    VariantBench result;
    result.config = config;
    result.config.train.recompute = subject.recompute();
    result.kernels = subject.kernels();
    result.size = subject.size();
    result.tokens = config.train.global_batch * config.data.seq_len;
    result.planned_bytes = subject.planned_bytes();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < options.warmup || seconds_since(start) < options.settle; ++i)
        result.losses.push_back(subject.step());
    for (int64_t i = 0; i < options.steps; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        result.losses.push_back(subject.step());  // waits for the loss, hence for the device
        result.step_seconds.push_back(seconds_since(begin));
    }
    result.peak_bytes = peak.bytes();
    if (options.diagnostics) {
        result.diagnostics = subject.measure_diagnostics(result.median(), result.losses);
        result.probe = subject.measure_probe();
    }
    if (options.apart > 0) result.parts = take_apart(ctx, subject, options.apart, result.losses);
    return result;
}

}  // namespace pastur
