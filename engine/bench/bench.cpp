#include "engine/bench/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "data/files.h"
#include "data/meta.h"
#include "engine/bench/bench_subject.h"
#include "engine/model/measure.h"
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

/// The step of median length of `count` steps under an OpTimer.
StepParts take_apart(Context& ctx, BenchSubject& subject, int64_t count, std::vector<double>& losses) {
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

int64_t bench_document_tokens(const Config& config) {
    const std::string& folder = config.data.dir;
    if (folder.empty() || !path_exists(std::filesystem::path(folder) / kMetaFile)) return kBenchDocument;
    return std::max<int64_t>(std::llround(read_meta(folder).train.mean), 1);
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
    const std::unique_ptr<Comm> comm = make_single_comm();
    BenchSubject subject(ctx, config, *comm);
    VariantBench result;
    result.config = config;
    result.config.train.recompute = subject.recompute();
    result.kernels = subject.kernels();
    result.size = subject.size();
    if (config.data.mask_documents) result.document_tokens = bench_document_tokens(config);
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
        result.scopes = subject.measure_further_scopes(result.median(), result.losses);
        result.probe = subject.measure_probe();
    }
    if (options.apart > 0) result.parts = take_apart(ctx, subject, options.apart, result.losses);
    return result;
}

}  // namespace pastur
