#include "engine/bench/bench_scaling.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>

#include "engine/bench/bench_subject.h"
#include "engine/bench/links.h"
#include "engine/model/measure.h"
#include "engine/train/optimizer/optimizer_state.h"

namespace pastur {
namespace {

/// Another communicator's collectives, or none of them: ranks then compute as they do between collectives, but what
/// they would have received is missing, so their losses and weights are meaningless.
class PausableComm final : public Comm {
  public:
    PausableComm(World& world, Comm& comm) : Comm(world, comm.transport()), comm_(comm) {}
    void pause() { paused_ = true; }

    void all_reduce_sum(Context& ctx, Tensor x) override {
        if (!paused_) comm_.all_reduce_sum(ctx, x);
    }
    int all_reduce_max(int value) override { return paused_ ? value : comm_.all_reduce_max(value); }
    void barrier() override {
        if (!paused_) comm_.barrier();
    }
    void begin_reduce_scatter(Context& ctx, Tensor x, DType wire) override {
        if (!paused_) comm_.begin_reduce_scatter(ctx, x, wire);
    }
    void begin_all_gather(Context& ctx, Tensor x) override {
        if (!paused_) comm_.begin_all_gather(ctx, x);
    }
    void begin_all_reduce(Context& ctx, Tensor x, DType wire) override {
        if (!paused_) comm_.begin_all_reduce(ctx, x, wire);
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) override {
        if (!paused_) comm_.begin_ordered_sum(ctx, total, x, update, wire);
    }
    void progress(Context& ctx) override {
        if (!paused_) comm_.progress(ctx);
    }
    void finish(Context& ctx) override {
        if (!paused_) comm_.finish(ctx);
    }

  private:
    Comm& comm_;
    bool paused_ = false;
};

/// Ranks begin each step together, so that none waits in it for a rank that began late.
std::vector<double> measure_steps(BenchSubject& subject, Comm& comm, int64_t steps) {
    std::vector<double> seconds;
    for (int64_t i = 0; i < steps; ++i) {
        comm.barrier();
        const auto begin = std::chrono::steady_clock::now();
        subject.step();
        seconds.push_back(seconds_since(begin));
    }
    return seconds;
}

void measure(ScalingPoint& point, Context& ctx, World& world, Comm& comm, const BenchOptions& options) {
    PausableComm pausable(world, comm);
    BenchSubject subject(ctx, point.config, pausable);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; comm.all_reduce_max(i < options.warmup || seconds_since(start) < options.settle); ++i)
        subject.step();
    point.step_seconds = measure_steps(subject, comm, options.steps);
    pausable.pause();
    measure_steps(subject, comm, 1);
    const double silent = quantile(measure_steps(subject, comm, options.steps), 0.5);
    for (const std::string& text : world.sideband().all_gather(fmt::format("{}", silent)))
        point.silent_seconds.push_back(std::stod(text));
}

/// alone_s: the step of one rank with the whole of one rank's work, of which `share` is done here.
StepTime predict(const ScalingPoint& point, Context& ctx, const Links& links, double alone_s, double share) {
    const Config& config = point.config;
    const TrainingSetup setup(config, compute_dtype(config.train, ctx), 0, point.ranks);
    const double muon = config.train.optimizer == OptimizerKind::kMuon ? muon_flops(setup.table(), 1) : 0;
    const double flops =
        setup.size().flops_per_token * static_cast<double>(point.tokens()) / point.ranks / share;
    const double muon_s = alone_s * muon / (flops + muon);
    return predict_step(config.train, setup.table(), links, point.ranks,
                        config.train.global_batch / point.ranks / config.train.micro_batch,
                        {(alone_s - muon_s) * share, muon_s});
}

ScalingPoint weak_point(const Config& config, int ranks) {
    ScalingPoint point{"weak", ranks, config, {}, {}};
    point.config.train.global_batch *= ranks;
    return point;
}

ScalingPoint strong_point(const Config& config, int ranks) {
    check_strong(config, ranks);
    ScalingPoint point{"strong", ranks, config, {}, {}};
    point.config.train.micro_batch = std::gcd(config.train.micro_batch, config.train.global_batch / ranks);
    return point;
}

}  // namespace

void check_strong(const Config& config, int ranks) {
    const TrainConfig& train = config.train;
    if (train.global_batch % ranks != 0)
        fail(ExitCode::kUsage,
             "--strong: expected a train.global_batch that divides over {} ranks: {} sequences", ranks,
             train.global_batch);
}

double ScalingPoint::median() const {
    return quantile(step_seconds, 0.5);
}
int64_t ScalingPoint::tokens() const {
    return config.train.global_batch * config.data.seq_len;
}
double ScalingPoint::silent() const {
    return *std::max_element(silent_seconds.begin(), silent_seconds.end());
}

double ScalingBench::efficiency(const ScalingPoint& point) const {
    return point.tokens_per_s() / point.ranks / alone.tokens_per_s();
}
double ScalingBench::efficiency(const ScalingPoint& point, const StepTime& predicted) const {
    return static_cast<double>(point.tokens()) / predicted.total() / point.ranks / alone.tokens_per_s();
}

ScalingBench bench_scaling(Context& ctx, World& world, Comm& comm, const Config& config,
                           const BenchOptions& options, bool strong) {
    ScalingBench bench;
    std::vector<ScalingPoint> points{weak_point(config, comm.size())};
    if (strong) points.push_back(strong_point(config, comm.size()));
    int level = 0;
    if (comm.is_root()) {
        bench.alone = bench_variant(
            ctx, config,
            {.steps = options.steps, .warmup = options.warmup, .apart = 0, .settle = options.settle});
        level = static_cast<int>(*bench.alone.config.train.recompute);
    }
    world.wait_for_all();  // without a collective, whose polling would slow rank 0 down
    level = comm.all_reduce_max(level);
    bench.links = measure_links(ctx, comm, kAssumedLinks);
    for (ScalingPoint& point : points) {
        point.config.train.recompute = static_cast<Recompute>(level);  // that of rank 0 alone
        measure(point, ctx, world, comm, options);
        if (!comm.is_root()) continue;
        const double share =
            static_cast<double>(point.tokens()) / point.ranks / static_cast<double>(bench.alone.tokens);
        point.predicted = predict(point, ctx, bench.links, bench.alone.median(), share);
        if (is_cuda(ctx)) point.planned = predict(point, ctx, kAssumedLinks, bench.alone.median(), share);
        bench.points.push_back(std::move(point));
    }
    return bench;
}

}  // namespace pastur
