#pragma once
// Single ops at a recipe's shapes, against the ceilings.
#include <functional>
#include <string>
#include <vector>

#include "engine/bench/bench.h"

namespace pastur {

struct OpBench {
    std::string op;               ///< "matmul wgrad", "attention backward"
    std::string shape;            ///< what it was given, for people
    double seconds = 0;           ///< by median_seconds (measure.h)
    double flops = 0, bytes = 0;  ///< as OpTotal counts them
    double rested_seconds = 0;    ///< by the function of that name; 0 on the CPU
};

/// Every distinct matrix of the config's model (forward, dgrad and wgrad over one micro-batch; the LM head
/// over one slice of it), its memory-bound ops, its own attention core, and the attention cores of the
/// targets: d_qk / d_v 64/64 at T = 256, 1024, 8192, 96/64 at 1024, 128/128 and 192/128 at 4096 on CUDA; on
/// the CPU fewer and shorter ones. Of these, the ones whose names begin with `only`; throws (kUsage) and
/// names the nearest where there is none. Inputs that the device's cache could hold are several sets, used in
/// turn. Appends them to `ops`, but those that it has of an earlier config; each goes to `measured` as soon
/// as it is there, since they take a minute and more together.
void bench_ops(
    Context& ctx, const Config& config, const std::string& only, std::vector<OpBench>& ops,
    const std::function<void(const OpBench&)>& measured = [](const OpBench&) {});

}  // namespace pastur
