#pragma once
// Deterministic access to token shards.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace pastur {

/// The sample that `rank` of `ranks` reads as its i-th, with i counted over all steps of the run.
/// Micro-batches of consecutive samples are dealt to the ranks in turn: rank r gets micro-batches r, r +
/// ranks, r + 2 ranks ... So a step's samples are the same on any number of ranks.
constexpr int64_t sample_of_rank(int64_t i, int64_t rank, int64_t ranks, int64_t micro_batch) {
    return (i / micro_batch * ranks + rank) * micro_batch + i % micro_batch;
}

/// A stream of tokens: shards in llm.c's public format, in the order of their names.
///
/// A training sequence is seq_len + 1 consecutive tokens of the stream (the last one is a target only);
/// sequence i starts at token i * seq_len. Sequences may cross shard borders. sample() visits each of them
/// once per epoch, in an order that is a pure function of (seed, epoch, index) through a keyed permutation.
/// The order needs no state, so it is the same after a resume and on any number of ranks. Reading is thread-safe.
class TokenLoader {
  public:
    /// Opens the shards that match `glob` and reads each once. Throws (kMissingInput) when none matches, (kIo),
    /// and (kCorruptData) for a wrong magic, version or length, for a token id that is not below `vocab`, and for
    /// all shards of a split in a folder of `data prepare` if they are not those that its meta.json describes.
    TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed);
    ~TokenLoader();
    TokenLoader(TokenLoader&&) noexcept;
    TokenLoader& operator=(TokenLoader&&) noexcept;

    int64_t tokens() const;     ///< in all shards
    int64_t sequences() const;  ///< (tokens - 1) / seq_len, at least 1, or construction throws (kCorruptData)
    /// Hash of the shards' names, sizes and contents. A checkpoint stores it; resuming checks it.
    uint64_t fingerprint() const;
    /// out [seq_len + 1] = training sequence number `sample`, counted over all epochs. Throws (kIo), and
    /// (kCorruptData) if the shards are no longer those that the constructor read; so does sequence().
    void sample(int64_t sample, std::span<int32_t> out) const;
    /// out [seq_len + 1] = sequence i of the stream in storage order: for validation.
    void sequence(int64_t i, std::span<int32_t> out) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pastur
