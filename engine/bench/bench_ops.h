#pragma once
// Rates of single ops at a recipe's shapes.
#include <functional>
#include <string>
#include <vector>

#include "engine/bench/bench.h"

namespace pastur {

struct OpBench {
    std::string op;               ///< "matmul wgrad", "attention backward"
    std::string shape;            ///< of the operands, for display
    double seconds = 0;           ///< by median_seconds (measure.h)
    double flops = 0, bytes = 0;  ///< as OpTotal counts them
    double rested_seconds = 0;    ///< by rested_seconds (measure.h); 0 on the CPU
};

/// Measures the ops whose names begin with `only`: every distinct matrix of the config's model (forward,
/// dgrad and wgrad over one micro-batch; the LM head over one slice of it), its memory-bound ops, with
/// attention.qk_norm its head norms, of mtla the layer norm and the merge of the latents, an AdamW update of all
/// parameters and a Muon update of one matrix of every shape, its attention core, and attention cores of common shapes:
/// d_qk / d_v 64/64 at T = 256, 1024, 8192, 96/64 at 1024, 128/128 and 192/128 at 4096 on CUDA; fewer and shorter ones
/// on the CPU. Of decoding: attention over full caches, the maps that absorb up-projections, appending to a cache and the
/// most probable token, for train.micro_batch sequences of data.seq_len tokens. Inputs that fit into the device's cache
/// are replicated and used in turn. Appends the results to `ops`, except those measured for an earlier config, and calls
/// `measured` after each, because all together take a minute or more. Throws (kUsage) with the nearest name if no name
/// begins with `only`.
void bench_ops(
    Context& ctx, const Config& config, const std::string& only, std::vector<OpBench>& ops,
    const std::function<void(const OpBench&)>& measured = [](const OpBench&) {});

}  // namespace pastur
