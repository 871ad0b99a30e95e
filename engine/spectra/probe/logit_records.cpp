#include "engine/spectra/probe/logit_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

namespace pastur {
namespace {

/// The sum of all tiles; a NaN stays visible in `largest`.
LogitSums total_of(const LogitSums* sums, int64_t count) {
    LogitSums total{};
    total.largest = -std::numeric_limits<double>::infinity();
    for (const LogitSums* tile = sums; tile != sums + count; ++tile) {
        for (double LogitSums::*field :
             {&LogitSums::pairs, &LogitSums::content, &LogitSums::rope, &LogitSums::content_squares,
              &LogitSums::rope_squares, &LogitSums::products, &LogitSums::entropy, &LogitSums::choices,
              &LogitSums::entropy_ratio})
            total.*field += tile->*field;
        total.largest =
            tile->largest > total.largest || std::isnan(tile->largest) ? tile->largest : total.largest;
        if (std::isnan(total.largest)) total.largest = std::numeric_limits<double>::quiet_NaN();
    }
    return total;
}

}  // namespace

LogitRecord logit_record(int64_t layer, int64_t head, const LogitSums* sums, int64_t count, int64_t queries,
                         bool split) {
    const LogitSums all = total_of(sums, count);
    const double n = all.pairs, c = all.content / n, r = all.rope / n;
    const double squares = all.content_squares + all.rope_squares + 2 * all.products;
    LogitRecord record{layer,
                       head,
                       all.largest,
                       std::sqrt(std::max(squares, 0.0) / n),
                       all.entropy / static_cast<double>(queries),
                       all.entropy_ratio / all.choices,
                       {}};
    if (!std::isfinite(squares)) record.rms_logit = squares;
    if (!split) return record;
    const double content = all.content_squares / n - c * c, rope = all.rope_squares / n - r * r,
                 covariance = 2 * (all.products / n - c * r), whole = content + rope + covariance;
    record.shares = {content / whole, rope / whole, covariance / whole};
    return record;
}

nlohmann::ordered_json to_json(const LogitRecord& record, int64_t step) {
    nlohmann::ordered_json json = {{"step", step},
                                   {"layer", record.layer},
                                   {"head", record.head},
                                   {"max_logit", record.max_logit},
                                   {"rms_logit", record.rms_logit},
                                   {"entropy", record.entropy},
                                   {"entropy_ratio", record.entropy_ratio}};
    if (record.shares)
        json.update({{"content_share", record.shares->content},
                     {"rope_share", record.shares->rope},
                     {"covariance_share", record.shares->covariance}});
    return json;
}

std::vector<Scalar> logit_scalars(int64_t step, const std::vector<LogitRecord>& records) {
    struct Layer {
        double largest = -std::numeric_limits<double>::infinity(), squares = 0, entropy = 0, ratio = 0,
               content = 0, rope = 0, heads = 0;
        bool split = false;
    };
    std::map<int64_t, Layer> layers;
    for (const LogitRecord& record : records) {
        Layer& layer = layers[record.layer];
        layer.largest = std::max(layer.largest, record.max_logit);
        layer.squares += record.rms_logit * record.rms_logit;
        layer.entropy += record.entropy;
        layer.ratio += record.entropy_ratio;
        layer.heads += 1;
        layer.split = record.shares.has_value();
        if (!layer.split) continue;
        layer.content += record.shares->content;
        layer.rope += record.shares->rope;
    }
    std::vector<Scalar> scalars;
    for (const auto& [index, layer] : layers) {
        const auto draw = [&, index = index](const char* metric, double value) {
            scalars.push_back({step, fmt::format("logits/{}/L{:02}", metric, index), value});
        };
        draw("max_logit", layer.largest);
        draw("rms_logit", std::sqrt(layer.squares / layer.heads));
        draw("entropy", layer.entropy / layer.heads);
        draw("entropy_ratio", layer.ratio / layer.heads);
        if (!layer.split) continue;
        draw("content_share", layer.content / layer.heads);
        draw("rope_share", layer.rope / layer.heads);
    }
    return scalars;
}

}  // namespace pastur
