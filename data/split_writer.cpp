#include "data/split_writer.h"

#include <cmath>
#include <numeric>

namespace pastur {

double entropy_of(std::span<const int64_t> counts) {
    const double total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
    double entropy = 0;
    for (const int64_t count : counts) {
        if (count == 0) continue;
        const double p = static_cast<double>(count) / total;
        entropy -= p * std::log(p);
    }
    return entropy;
}

SplitWriter::SplitWriter(const std::filesystem::path& folder, const std::string& prefix, int64_t vocab,
                         int64_t shard_tokens)
    : writer_(folder, prefix, width_for(vocab), shard_tokens), counts_(static_cast<size_t>(vocab)) {}

void SplitWriter::write(std::span<const int32_t> tokens, int64_t bytes) {
    writer_.write(tokens);
    for (const int32_t id : tokens) ++counts_[static_cast<size_t>(id)];
    ++lengths_[std::ssize(tokens)];
    ++meta_.documents;
    meta_.tokens += std::ssize(tokens);
    meta_.bytes += bytes;
}

void SplitWriter::describe_lengths() {
    if (lengths_.empty()) return;
    const auto quantile = [&](double q) {
        const int64_t rank = static_cast<int64_t>(q * static_cast<double>(meta_.documents - 1));
        int64_t seen = 0;
        for (const auto& [length, documents] : lengths_)
            if ((seen += documents) > rank) return length;
        return lengths_.rbegin()->first;
    };
    meta_.shortest = lengths_.begin()->first;
    meta_.median = quantile(0.5);
    meta_.p90 = quantile(0.9);
    meta_.longest = lengths_.rbegin()->first;
    meta_.mean = static_cast<double>(meta_.tokens) / static_cast<double>(meta_.documents);
}

SplitMeta SplitWriter::finish(int threads) {
    writer_.finish();
    meta_.shards = std::ssize(writer_.paths());
    meta_.unigram_entropy = entropy_of(counts_);
    describe_lengths();
    if (meta_.shards > 0) {
        std::vector<Shard> shards = open_shards(writer_.paths());
        meta_.fingerprint = scan_shards(shards, std::ssize(counts_), threads);
    }
    return meta_;
}

}  // namespace pastur
