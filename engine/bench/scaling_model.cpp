#include "engine/bench/scaling_model.h"

#include <algorithm>

#include "engine/train/optimizer/optimizer_state.h"

namespace pastur {

const char* const kScalingFormula =
    "  bucket of S bytes (train.comm_dtype = \"bf16\": half of fp32's), R ranks: reduce-scatter or all-gather t = (R - 1) alpha + (R - 1)/R S / B (a ring, "
    "or pairwise messages)\n"
    "  buckets are sent one by one as backward (2/3 of the last micro-batch) completes them: end_i = "
    "max(end_(i-1), ready_i) + 2 t_i\n"
    "  step = compute + max(0, end_last - backward); zero = 1: t_i in backward, the weights' t after the "
    "update; deterministic_comm: every micro-batch\n"
    "  Muon's GEMMs: on every rank, or with zero = 1 whole matrices on each\n"
    "  not modelled: stragglers, contention of links, GEMMs slowed by concurrent communication, trees and "
    "in-network sums (faster than a ring on many ranks)\n";

namespace {

double transfer(const Links& links, int ranks, int64_t elements, DType wire) {
    const double bandwidth = ranks <= links.node ? links.bytes_per_s : links.bytes_per_s_beyond;
    const double others = ranks - 1;
    return others * links.alpha_s +
           others / ranks * static_cast<double>(elements * size_of(wire)) / bandwidth;
}

}  // namespace

StepTime predict_step(const TrainConfig& config, const ParamTable& table, const Links& links, int ranks,
                      int64_t micro_batches, const ComputeTime& compute) {
    const bool divided = config.zero == 1 && ranks > 1 && compute.muon_s > 0;
    const double muon_s = compute.muon_s * (divided ? muon_flops(table, ranks) / muon_flops(table, 1) : 1);
    const double compute_s = compute.micro_batches_s + muon_s;
    if (ranks == 1) return {compute_s, 0};
    const bool whole = config.zero == 0 && !config.deterministic_comm;
    const double backward = compute.micro_batches_s / static_cast<double>(micro_batches) * 2 / 3;
    const DType wire = dtype_of(config.comm_dtype);
    // Gathered at the end of the step: the updated weights, or the ordered sum of the gradients.
    const DType gathered = config.zero == 1 ? dtype_of(config.weights) : DType::kF32;
    const GradientBuckets buckets(table, ranks);
    double end = 0, gathers = 0;
    int64_t complete = 0;
    for (const FlatRange& bucket : buckets.ranges()) {
        complete += bucket.count;
        const double ready =
            backward * static_cast<double>(complete) / static_cast<double>(table.total_elements());
        const double one_way = transfer(links, ranks, bucket.count, wire);
        end = std::max(end, ready) + (whole ? 2 : 1) * one_way;
        gathers += transfer(links, ranks, bucket.count, gathered);
    }
    double exposed = std::max(0.0, end - backward);
    if (config.deterministic_comm) exposed *= static_cast<double>(micro_batches);
    if (!whole) exposed += gathers;
    return {compute_s, exposed};
}

}  // namespace pastur
