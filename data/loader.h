#pragma once
// Deterministic access to token shards.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/sequence_plan.h"

namespace pastur {

/// The sample that `rank` of `ranks` reads as its i-th, with i counted over all steps of the run.
/// Micro-batches of consecutive samples are dealt to the ranks in turn: rank r gets micro-batches r, r +
/// ranks, r + 2 ranks ... So a step's samples are the same on any number of ranks.
constexpr int64_t sample_of_rank(int64_t i, int64_t rank, int64_t ranks, int64_t micro_batch) {
    return (i / micro_batch * ranks + rank) * micro_batch + i % micro_batch;
}

/// Shards that a loader draws from, and their part of a mixture.
struct LoaderSource {
    std::string name;    ///< in messages
    std::string glob;    ///< shard_paths()
    int64_t weight = 1;  ///< MixtureSchedule
};

/// Token shards (token_file.h) cut into sequences: one stream in the order of the shards' names, or a mixture of several.
///
/// With SequenceLayout::kStream a sequence is seq_len + 1 consecutive tokens of the stream (the last one is a target
/// only); sequence i starts at token i * seq_len, and sequences may cross shard borders. For the other layouts see
/// SequencePlan. sample() visits each sequence of a stream once per epoch, in an order that is a pure function of (seed,
/// epoch, index) through a keyed permutation. Samples of a mixture are dealt to its streams by MixtureSchedule, and each
/// stream has epochs and a key of its own. The order needs no state, so it is the same after a resume and on any number
/// of ranks. Reading is thread-safe.
class TokenLoader {
  public:
    /// Opens the shards of `glob` and reads each once. Throws (kMissingInput) when there are none, (kIo), and
    /// (kCorruptData) for files that are no shards, for a token id that is not below `vocab`, for fewer tokens than a
    /// sequence has, and for all shards of a split in a folder of `data prepare` if they are not those that its
    /// meta.json describes; (kUsage) if the layout needs the ends of documents and nothing tells them.
    TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed,
                SequenceLayout layout = SequenceLayout::kStream);
    /// A mixture. Also throws (kUsage) unless the folders of all sources have one tokenizer.
    TokenLoader(std::vector<LoaderSource> sources, int64_t seq_len, int64_t vocab, uint64_t seed,
                SequenceLayout layout = SequenceLayout::kStream);
    ~TokenLoader();
    TokenLoader(TokenLoader&&) noexcept;
    TokenLoader& operator=(TokenLoader&&) noexcept;

    int64_t tokens() const;  ///< in all shards
    /// Sequences in storage order, at least 1. Of a mixture: as many as sequence() takes from its streams by their
    /// weights before one of them ends.
    int64_t sequences() const;
    /// Hash of the shards' sizes and contents, of all sources together. A checkpoint stores it; resuming checks it.
    uint64_t fingerprint() const;
    /// out [seq_len + 1] = training sequence number `sample`, counted over all epochs; -1 for padding, which is at the
    /// end only. Throws (kIo), and (kCorruptData) if the shards are no longer those that the constructor read; so does
    /// sequence().
    void sample(int64_t sample, std::span<int32_t> out) const;
    /// out [seq_len + 1] = sequence i in storage order: for validation.
    void sequence(int64_t i, std::span<int32_t> out) const;
    /// Number of targets, tokens that follow another one, of the samples [begin, end): seq_len each, less padding.
    int64_t sample_targets(int64_t begin, int64_t end) const;
    /// Number of targets of the sequences [begin, end).
    int64_t sequence_targets(int64_t begin, int64_t end) const;

    /// The token that ends every document, whatever the layout: the EOS of the folders' meta.json, or GPT-2's
    /// <|endoftext|> where `vocab` is its vocabulary. None: nothing tells it, or sources have different ones.
    std::optional<int32_t> separator() const;

    struct Source {
        std::string name;
        double share;  ///< of the sequences
        int64_t tokens, sequences;
        uint64_t fingerprint;
    };
    std::vector<Source> sources() const;
    /// How often the first `samples` samples read each source.
    std::vector<double> epochs(int64_t samples) const;
    /// Sentences for the user: formats that were recognised without a magic, and what packing documents costs.
    std::vector<std::string> notes() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace pastur
