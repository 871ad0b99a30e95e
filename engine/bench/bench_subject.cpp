#include "engine/bench/bench_subject.h"

#include <algorithm>

#include "engine/model/measure.h"

namespace pastur {
namespace {

constexpr int64_t kBatches = 8;

ReadSequence random_sequences(const Config& config) {
    return [seed = config.train.seed, vocab = config.model.vocab](int64_t i, std::span<int32_t> out) {
        const auto ids = random_ids(seed, static_cast<uint64_t>(i), static_cast<int64_t>(out.size()), vocab);
        std::copy(ids.begin(), ids.end(), out.begin());
    };
}

}  // namespace

RandomBatches::RandomBatches(const Config& config, const BatchShape& shape, int rank) {
    const ReadSequence read = random_sequences(config);
    for (int64_t i = rank * kBatches; i < (rank + 1) * kBatches; ++i)
        batches_.push_back(read_batch(read, i * shape.batch, shape));
}

BenchSubject::BenchSubject(Context& ctx, const Config& config, Comm& comm)
    : config_(config),
      ctx_(ctx),
      comm_(comm),
      setup_(config, compute_dtype(config.train, ctx), comm.rank(), comm.size(), comm.transport()),
      batches_(config, setup_.model().shape(), comm.rank()) {
    using Purpose = TrainingSetup::Purpose;
    const MemoryInfo memory = memory_info(ctx);
    MemoryPlan plan = setup_.plan(ctx, Purpose::kSteps);
    plan.settle_recompute(memory, ctx, comm, setup_.model());
    plan.check_fits(memory, ctx, setup_.model());
    planned_bytes_ = plan.total();
    setup_.allocate(ctx, Purpose::kSteps);
    step_ = std::make_unique<TrainStep>(config, ctx, comm, setup_.model(), setup_.optimizer());
    setup_.params().initialise(ctx, config.train.seed);
}

double BenchSubject::step() {
    const auto result = step_->run([this] { return batches_.next(); }, done_, config_.train.lr);
    if (!result.updated)
        fail(ExitCode::kNonFinite, "lower train.lr: bench diverged in step {}, loss {}, gradient norm {}",
             done_, result.loss, result.grad_norm);
    ++done_;
    return result.loss;
}

DiagnosticsCost BenchSubject::measure_diagnostics(double step_seconds, std::vector<double>& losses) {
    return pastur::measure_diagnostics(ctx_, comm_, config_, setup_.params(), step_seconds,
                                       [&] { losses.push_back(step()); });
}

std::vector<ScopeCost> BenchSubject::measure_further_scopes(double step_seconds, std::vector<double>& losses) {
    return pastur::measure_further_scopes(ctx_, comm_, config_, setup_.params(), step_seconds,
                                          [&] { losses.push_back(step()); });
}

std::vector<ScopeCost> BenchSubject::measure_probe() {
    return pastur::measure_probe(ctx_, setup_.model(), config_.diagnostics, random_sequences(config_));
}

}  // namespace pastur
