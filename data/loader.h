#pragma once
// Deterministic, memory-mapped access to token shards.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace pastur {

/// A stream of tokens made of shards in llm.c's public format, in the order of their names.
///
/// A training sequence is seq_len + 1 consecutive tokens of the stream (the last one is a target only);
/// sequence i starts at token i * seq_len. Sequences may cross shard borders. sample() visits all of them
/// once an epoch in an order that is a pure function of (seed, epoch, index) through a keyed permutation: no
/// state, so a resumed run, or one on another number of ranks, sees the same samples. Reading is thread-safe.
class TokenLoader {
  public:
    /// Opens and maps the shards `glob` matches. Throws (kMissingInput) when none does, (kCorruptData) for a
    /// bad magic, version, length or a file that is cut short, and when a token id is not below `vocab`
    /// (every shard is scanned once at opening).
    TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed);
    ~TokenLoader();
    TokenLoader(TokenLoader&&) noexcept;
    TokenLoader& operator=(TokenLoader&&) noexcept;

    int64_t tokens() const;     ///< in all shards
    int64_t sequences() const;  ///< (tokens - 1) / seq_len, at least 1, or construction throws (kCorruptData)
    /// Hash of the shards' names, sizes and contents: part of a checkpoint, checked on resume.
    uint64_t fingerprint() const;
    /// out [seq_len + 1] = the sample-th training sequence, counted over all epochs.
    void sample(int64_t sample, std::span<int32_t> out) const;
    /// out [seq_len + 1] = sequence i of the stream in storage order: for validation.
    void sequence(int64_t i, std::span<int32_t> out) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pastur
