#pragma once
// The tokens that a loss is measured on: those of shards, or of text that is tokenised on the way.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus/corpus.h"
#include "data/loader.h"
#include "data/tokenizer/tokenizer.h"

namespace pastur {

/// The text behind a stream's targets.
struct TextSize {
    int64_t bytes = 0;  ///< of UTF-8
    int64_t words = 0;  ///< runs of characters that are not white space
};

/// The first token is an input only; every other one is a target as well.
class ScoredStream {
  public:
    virtual ~ScoredStream() = default;
    /// Appends tokens to `out`; false at the end of the stream.
    virtual bool next(std::vector<int32_t>& out) = 0;
    /// The id between documents, which belongs to no text; -1 if it is not known.
    virtual int32_t separator() const = 0;
    /// The text of all targets that next() has given; empty if no tokenizer is known.
    virtual std::optional<TextSize> text() const = 0;
    /// TokenLoader::notes().
    virtual std::vector<std::string> notes() const { return {}; }
};

/// Which tokens a stream gives.
struct StreamLimits {
    int64_t seq_len = 0;  ///< tokens of shards that do not fill a last sequence are left out, as in training
    int64_t max_tokens = 0;  ///< targets, at most; 0: no limit. Whole sequences of shards, at least one
};

/// Tokens of `data`, whose sequences have limits.seq_len tokens. tokenizer: what they were made with, or null. next()
/// throws as TokenLoader::sequence() does.
std::unique_ptr<ScoredStream> shard_stream(std::shared_ptr<const TokenLoader> data,
                                           const StreamLimits& limits,
                                           std::shared_ptr<const Tokenizer> tokenizer);

/// Documents of text files or JSON lines as `data prepare` writes them, each followed by EOS, and an EOS in front of the
/// first. The files are what corpus_files() finds. next() throws as CorpusReader does, (kCorruptData) for a line without a
/// usable text, naming file and line, and (kCorruptData) if there is no text at all.
std::unique_ptr<ScoredStream> text_stream(const std::vector<std::string>& files, const CorpusFormat& format,
                                          const StreamLimits& limits,
                                          std::shared_ptr<const Tokenizer> tokenizer);

/// Whether the path (shard_paths()) names a type of tokens or ends in .bin or .idx, or the file begins as llm.c's shards
/// do. Throws (kMissingInput, kIo).
bool is_shard(const std::string& path);

}  // namespace pastur
