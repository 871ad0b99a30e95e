#pragma once
// Attention logits on the probe: lines of spectra/logits.jsonl, one per step, layer and head.
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

#include "engine/io/tensorboard.h"
#include "kernels/attention/attention_logits.h"

namespace pastur {

/// The logits of one head over the probe's sequences. S = C + R is the logit of a query and a key that it sees;
/// R is the rotary part of split heads.
struct LogitRecord {
    int64_t layer, head;
    double max_logit;  ///< largest S
    double rms_logit;  ///< root of the mean of S^2
    double entropy;    ///< of attention, nats: mean over queries
    double
        entropy_ratio;  ///< mean of entropy over log(keys that the query sees), over queries that see several
    /// Shares of the variance of S, which add up to 1: var C, var R, 2 cov(C, R). None where heads are not split.
    struct Shares {
        double content, rope, covariance;
    };
    std::optional<Shares> shares;
};

/// The statistics of a head from its `count` sums: tiles of all sequences, added up in their order. queries: number of
/// them. `split`: the head has a rotary part of its own.
LogitRecord logit_record(int64_t layer, int64_t head, const LogitSums* sums, int64_t count, int64_t queries,
                         bool split);

/// {"step", "layer", "head", "max_logit", "rms_logit", "entropy", "entropy_ratio", "content_share", "rope_share",
/// "covariance_share"}, the shares only where heads are split. metrics_line() makes it a line.
nlohmann::ordered_json to_json(const LogitRecord& record, int64_t step);

/// `logits/<metric>/L03`: the largest logit of a layer's heads, the root mean square of their logits, and means over
/// its heads of all other numbers.
std::vector<Scalar> logit_scalars(int64_t step, const std::vector<LogitRecord>& records);

}  // namespace pastur
