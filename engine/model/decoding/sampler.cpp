#include "engine/model/decoding/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/philox.h"

namespace pastur {
namespace {

/// The first of the largest logits.
size_t most_probable(std::span<const float> logits) {
    size_t best = 0;
    bool finite = true;
    for (size_t i = 0; i < logits.size(); ++i) {
        finite &= logits[i] < INFINITY;  // false for NaN
        if (logits[i] > logits[best]) best = i;
    }
    if (!finite || std::isinf(logits[best])) fail_not_finite();
    return best;
}

/// Uniform in [0, 1), with 53 random bits.
double uniform(uint64_t seed, uint64_t sequence, uint64_t position) {
    const PhiloxBlock block = philox_block(seed, sequence, position);
    const uint64_t bits = (uint64_t{block[0]} << 32 | block[1]) >> 11;
    return static_cast<double>(bits) * 0x1p-53;
}

/// Token ids by falling weight, sorted as far as they are asked for: a nucleus has few of many thousand tokens.
class ByWeight {
  public:
    explicit ByWeight(const std::vector<double>& weights) : weights_(weights), ids_(weights.size()) {
        std::iota(ids_.begin(), ids_.end(), 0u);
    }
    uint32_t operator[](size_t i) {
        if (i >= sorted_) sort_to(std::max(i + 1, std::max(kFirst, 4 * sorted_)));
        return ids_[i];
    }

  private:
    static constexpr size_t kFirst = 64;
    void sort_to(size_t end) {
        end = std::min(end, ids_.size());
        const auto at = [&](size_t i) { return ids_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::partial_sort(at(sorted_), at(end), ids_.end(), [&](uint32_t a, uint32_t b) {
            return weights_[a] != weights_[b] ? weights_[a] > weights_[b] : a < b;
        });
        sorted_ = end;
    }
    const std::vector<double>& weights_;
    std::vector<uint32_t> ids_;
    size_t sorted_ = 0;
};

/// The weights of the tokens that top_k and top_p keep; 0 for all others.
std::vector<double> restricted(const std::vector<double>& weights, const Sampling& sampling) {
    const size_t count = weights.size(),
                 most = sampling.top_k > 0 ? std::min(count, static_cast<size_t>(sampling.top_k)) : count;
    if (most == count && sampling.top_p >= 1) return weights;
    ByWeight order(weights);
    double sum = 0;
    if (most == count)
        sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    else
        for (size_t i = 0; i < most; ++i) sum += weights[order[i]];
    std::vector<double> kept(count);
    double kept_sum = 0;
    for (size_t i = 0; i < most && (i == 0 || kept_sum < sampling.top_p * sum); ++i) {
        const uint32_t id = order[i];
        kept_sum += kept[id] = weights[id];
    }
    return kept;
}

}  // namespace

void fail_not_finite() {
    fail(ExitCode::kNonFinite, "generation: a logit is not finite; check the checkpoint's training run");
}

int32_t sample(std::span<const float> logits, const Sampling& sampling, uint64_t sequence,
               uint64_t position) {
    PASTUR_CHECK(!logits.empty() && sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p > 0,
                 "sample: {} logits, temperature {}, top_k {}, top_p {}", logits.size(), sampling.temperature,
                 sampling.top_k, sampling.top_p);
    const size_t best = most_probable(logits);
    if (sampling.temperature == 0) return static_cast<int32_t>(best);
    std::vector<double> weights(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
        weights[i] = std::exp((static_cast<double>(logits[i]) - logits[best]) / sampling.temperature);
    weights = restricted(weights, sampling);
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    double rest = uniform(sampling.seed, sequence, position) * total;
    // In the order of ids, so that rounding of the logits hardly ever changes the token. The sum of what is subtracted
    // may fall short of the total by rounding: then it is the last token that has a weight.
    size_t token = best;
    for (size_t i = 0; i < weights.size(); ++i) {
        if (weights[i] == 0) continue;
        token = i;
        if (rest < weights[i]) break;
        rest -= weights[i];
    }
    return static_cast<int32_t>(token);
}

}  // namespace pastur
