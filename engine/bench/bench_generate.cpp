#include "engine/bench/bench_generate.h"

#include "engine/model/measure.h"

namespace pastur {
namespace {

using Clock = std::chrono::steady_clock;

/// Passes before those that count: the first loads code and plans GEMMs, the second is captured.
constexpr int64_t kWarmUp = 2;

GenerateCell measure(Context& ctx, const Model& weights, int64_t batch, const GenerateBenchOptions& options) {
    const uint64_t seed = weights.config().train.seed;
    const int64_t vocab = weights.config().model.vocab;
    Decoder decoder(ctx, weights, {batch, options.context, options.context + options.steps + kWarmUp});
    std::vector<std::vector<int32_t>> prompts;
    for (int64_t b = 0; b < batch; ++b)
        prompts.push_back(random_ids(seed, static_cast<uint64_t>(b), options.context, vocab));
    GenerateCell cell{.batch = batch, .context = options.context};
    decoder.prefill(prompts);  // plans GEMMs and loads code
    synchronize(ctx);
    const auto begin = Clock::now();
    decoder.prefill(prompts);
    synchronize(ctx);
    cell.prefill_seconds = seconds_since(begin);
    for (int64_t step = 0; step < kWarmUp + options.steps; ++step) {
        const auto tokens = random_ids(seed, static_cast<uint64_t>(batch + step), batch, vocab);
        const auto step_begin = Clock::now();
        decoder.step(tokens);
        synchronize(ctx);
        if (step >= kWarmUp) cell.step_seconds.push_back(seconds_since(step_begin));
    }
    cell.cache = decoder.cache_use();
    cell.working_bytes = decoder.working_bytes();
    cell.replays = decoder.replays();
    return cell;
}

}  // namespace

double GenerateCell::prefill_tokens_per_s() const {
    return static_cast<double>(batch * context) / prefill_seconds;
}
double GenerateCell::step_seconds_p50() const {
    return quantile(step_seconds, 0.5);
}
double GenerateCell::step_seconds_p95() const {
    return quantile(step_seconds, 0.95);
}
double GenerateCell::decode_tokens_per_s() const {
    return static_cast<double>(batch) / step_seconds_p50();
}

GenerateBench bench_generate(Context& ctx, const Config& config, const GenerateBenchOptions& options) {
    Model weights(config, compute_dtype(config.train, ctx), {1, 1});
    weights.params().allocate(ctx, /*with_gradients=*/false);
    weights.params().initialise(ctx, config.train.seed);
    const int64_t parameters = weights.params().table().count();
    GenerateBench result{config, parameters, parameters * size_of(weights.params().compute_dtype()), {}};
    for (const int64_t batch : options.batches) {
        result.cells.push_back(measure(ctx, weights, batch, options));
        reserve_scratch(ctx, 0);  // the next decoder plans its own
    }
    return result;
}

}  // namespace pastur
