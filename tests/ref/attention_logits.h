#pragma once
#include "tests/ref/causal_attention.h"

namespace pastur::ref {

/// Statistics of one head's scores in one sequence, over all pairs of a query and a key that it sees.
struct LogitStatistics {
    double pairs = 0, largest = -INFINITY;
    double content = 0, rope = 0, content_squares = 0, rope_squares = 0, products = 0;  ///< sums
    double entropy = 0, choices = 0, entropy_ratio = 0;

    void add(const LogitStatistics& other) {
        largest = std::max(largest, other.largest);
        for (double LogitStatistics::*sum :
             {&LogitStatistics::pairs, &LogitStatistics::content, &LogitStatistics::rope,
              &LogitStatistics::content_squares, &LogitStatistics::rope_squares, &LogitStatistics::products,
              &LogitStatistics::entropy, &LogitStatistics::choices, &LogitStatistics::entropy_ratio})
            this->*sum += other.*sum;
    }
};

/// Of queries [begin, end) of head h in sequence b. Arguments as for causal_attention().
inline LogitStatistics logit_statistics(const std::vector<double>& q, const std::vector<double>& k,
                                        const std::vector<double>& k_shared, const AttentionSizes& n,
                                        double scale, int64_t b, int64_t h, int64_t begin, int64_t end) {
    LogitStatistics result;
    const int64_t kv = h / (n.heads / n.kv_heads);
    for (int64_t t = begin; t < end; ++t) {
        std::vector<double> scores;
        for (int64_t s = 0; s <= t; ++s) {
            if (!n.sees(b, t, s)) continue;
            double content = 0, rope = 0;
            for (int64_t d = 0; d < n.query(); ++d) {
                const double x = at(q, ((b * n.time + t) * n.heads + h) * n.query() + d);
                if (d < n.content)
                    content += scale * x * at(k, ((b * n.time + s) * n.kv_heads + kv) * n.content + d);
                else
                    rope += scale * x * at(k_shared, (b * n.time + s) * n.rotary + d - n.content);
            }
            scores.push_back(content + rope);
            result.pairs += 1;
            result.largest = std::max(result.largest, content + rope);
            result.content += content;
            result.rope += rope;
            result.content_squares += content * content;
            result.rope_squares += rope * rope;
            result.products += content * rope;
        }
        const double largest = *std::max_element(scores.begin(), scores.end());
        double sum = 0, entropy = 0;
        for (const double score : scores) sum += std::exp(score - largest);
        for (const double score : scores) {
            const double log_p = score - largest - std::log(sum);
            entropy -= std::exp(log_p) * log_p;
        }
        result.entropy += entropy;
        if (scores.size() < 2) continue;
        result.choices += 1;
        result.entropy_ratio += entropy / std::log(static_cast<double>(scores.size()));
    }
    return result;
}

}  // namespace pastur::ref
