#pragma once
// The sequences of one folder or glob of shards.
#include <optional>
#include <string>
#include <vector>

#include "data/sequence_plan.h"
#include "data/shards/shard.h"

namespace pastur {

/// A stream of tokens: shards in the order of their names, cut into sequences of seq_len + 1 tokens. Thread-safe.
class TokenStream {
  public:
    /// See TokenLoader.
    TokenStream(const std::string& glob, int64_t seq_len, int64_t vocab, SequenceLayout layout);

    int64_t tokens() const { return starts_.back(); }
    int64_t sequences() const { return sequences_; }
    uint64_t fingerprint() const { return fingerprint_; }
    /// Number of tokens of sequence i that follow another one; less than seq_len where it is padded.
    int64_t targets(int64_t i) const { return plan_ ? plan_->targets(i) : seq_len_; }
    /// out [seq_len + 1] = sequence i, with -1 for padding at its end.
    void sequence(int64_t i, std::span<int32_t> out) const;
    /// The token that ends a document: the EOS of the folder's meta.json, or <|endoftext|> where the model has GPT-2's
    /// vocabulary of 50,257 tokens, also padded to 50,304. None: neither tells it.
    std::optional<int32_t> separator() const;
    /// What the files were taken for, and what the layout costs; one sentence each.
    const std::vector<std::string>& notes() const { return notes_; }
    /// The folder of the first shard.
    std::string folder() const;

  private:
    void read(int64_t begin, std::span<int32_t> out) const;
    void plan_documents(const std::string& glob, SequenceLayout layout);
    std::vector<Shard> shards_;
    std::vector<int64_t> starts_{0};  ///< position in the stream of each shard's first token, then of the end
    int64_t seq_len_, vocab_, sequences_ = 0;
    uint64_t fingerprint_ = 0;
    std::optional<SequencePlan> plan_;  ///< none: kStream
    std::vector<std::string> notes_;
};

}  // namespace pastur
