#pragma once
// Writes the token shards of one split and describes them for meta.json.
#include <map>
#include <span>
#include <vector>

#include "data/meta.h"
#include "data/shards/shard.h"

namespace pastur {

class SplitWriter {
  public:
    SplitWriter(const std::filesystem::path& folder, const std::string& prefix, int64_t vocab,
                int64_t shard_tokens);
    /// Writes the tokens of one document, with its EOS, of `bytes` bytes of text.
    void write(std::span<const int32_t> tokens, int64_t bytes);
    /// Completes the shards, reads them back for the fingerprint and returns their description.
    SplitMeta finish(int threads);
    int64_t documents() const { return meta_.documents; }
    int64_t tokens() const { return meta_.tokens; }

  private:
    void describe_lengths();
    ShardWriter writer_;
    SplitMeta meta_;
    std::vector<int64_t> counts_;         ///< of each token id
    std::map<int64_t, int64_t> lengths_;  ///< documents of each length
};

/// Entropy of the distribution with these counts, in nats; 0 without counts.
double entropy_of(std::span<const int64_t> counts);

}  // namespace pastur
