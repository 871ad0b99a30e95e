#include "engine/bench/bench_subject.h"

#include <algorithm>

#include "engine/bench/bench.h"
#include "engine/model/measure.h"
#include "kernels/base/random.h"

namespace pastur {
namespace {

constexpr int64_t kBatches = 8;

constexpr int32_t kSeparator = 0;

/// Random tokens. With data.mask_documents, each is the separator with the probability that gives documents their mean
/// length, and no other token is 0.
ReadSequence random_sequences(const Config& config) {
    const bool documents = config.data.mask_documents;
    const int64_t mean = documents ? bench_document_tokens(config) : 0;
    return [=, seed = config.train.seed, vocab = config.model.vocab](int64_t i, std::span<int32_t> out) {
        const auto ids = random_ids(seed, static_cast<uint64_t>(i), std::ssize(out), vocab);
        std::copy(ids.begin(), ids.end(), out.begin());
        if (!documents) return;
        const auto draws = random_ids(mix64(seed), static_cast<uint64_t>(i), std::ssize(out), mean);
        for (size_t t = 0; t < out.size(); ++t)
            out[t] = draws[t] == 0 ? kSeparator : std::max(out[t], kSeparator + 1);
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
    setup_.model().set_separator(kSeparator);
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

std::vector<ScopeCost> BenchSubject::measure_further_scopes(double step_seconds,
                                                            std::vector<double>& losses) {
    return pastur::measure_further_scopes(ctx_, comm_, config_, setup_.params(), step_seconds,
                                          [&] { losses.push_back(step()); });
}

std::vector<ScopeCost> BenchSubject::measure_probe() {
    return pastur::measure_probe(ctx_, setup_.model(), config_.diagnostics, random_sequences(config_));
}

}  // namespace pastur
