#include "tools/pastur/analysis/rank_correlation.h"

#include <algorithm>
#include <numeric>

#include "kernels/base/random.h"

namespace pastur {
namespace {

/// Ranks less their mean, over their norm, so that a correlation is a scalar product. Empty if all are equal.
std::vector<double> unit_ranks(const std::vector<double>& values) {
    const size_t n = values.size();
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
    std::vector<double> ranks(n);
    const double centre = (static_cast<double>(n) - 1) / 2;
    double squares = 0;
    for (size_t begin = 0; begin < n;) {
        size_t end = begin + 1;
        while (end < n && values[order[end]] == values[order[begin]]) ++end;
        const double rank = static_cast<double>(begin + end - 1) / 2 - centre;
        for (size_t i = begin; i < end; ++i) ranks[order[i]] = rank;
        squares += rank * rank * static_cast<double>(end - begin);
        begin = end;
    }
    if (n < 3 || squares == 0) return {};
    for (double& rank : ranks) rank /= std::sqrt(squares);
    return ranks;
}

struct Ranks {
    explicit Ranks(const Pairs& pairs) {
        std::vector<double> a, b;
        for (const auto& [first, second] : pairs) {
            a.push_back(first);
            b.push_back(second);
        }
        x = unit_ranks(a);
        y = unit_ranks(b);
        if (x.empty() || y.empty()) x.clear(), y.clear();
    }
    double correlation() const {
        if (x.empty()) return NAN;
        return std::clamp(std::inner_product(x.begin(), x.end(), y.begin(), 0.0), -1.0, 1.0);
    }
    std::vector<double> x, y;
};

void shuffle(std::vector<double>& values, SplitMix& random) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[random.below(i)]);
}

}  // namespace

double rank_correlation(const Pairs& pairs) {
    return Ranks(pairs).correlation();
}

CorrelationTest test_correlation(std::span<const Pairs* const> runs, Tail tail, uint64_t key) {
    std::vector<Ranks> ranks;
    std::vector<double> rhos;
    for (const Pairs* pairs : runs) {
        ranks.emplace_back(*pairs);
        rhos.push_back(ranks.back().correlation());
        if (ranks.back().x.empty()) ranks.pop_back();
    }
    CorrelationTest test{mean_over_seeds(rhos)};
    if (ranks.empty()) return test;
    const auto distance = [&](double rho) { return tail == Tail::kBoth ? std::abs(rho) : rho; };
    constexpr double kRounding = 1e-12;
    int as_far = 1;
    SplitMix random(key);
    for (int i = 0; i < kShuffles; ++i) {
        double sum = 0;
        for (Ranks& run : ranks) {
            shuffle(run.y, random);
            sum += run.correlation();
        }
        const double mean = sum / static_cast<double>(ranks.size());
        as_far += distance(mean) >= distance(test.rho.mean) - kRounding ? 1 : 0;
    }
    test.p = static_cast<double>(as_far) / (kShuffles + 1);
    return test;
}

}  // namespace pastur
