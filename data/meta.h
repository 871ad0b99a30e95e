#pragma once
// meta.json: what `data prepare` says about the shards it wrote.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace pastur {

inline constexpr const char* kMetaFile = "meta.json";
inline constexpr const char* kTokenizerFile = "tokenizer.model";     ///< SentencePiece
inline constexpr const char* kTokenizerJsonFile = "tokenizer.json";  ///< byte-level BPE
inline constexpr const char* kTokenizerConfigFile = "tokenizer_config.json";

struct SplitMeta {
    int64_t shards = 0;
    int64_t documents = 0;
    int64_t tokens = 0;          ///< with the EOS of each document
    int64_t bytes = 0;           ///< of UTF-8 text
    double unigram_entropy = 0;  ///< of the tokens, in nats: the loss of a model of their frequencies alone
    /// Tokens per document (with its EOS): shortest, median, 90th percentile, longest, mean.
    int64_t shortest = 0, median = 0, p90 = 0, longest = 0;
    double mean = 0;
    /// TokenLoader::fingerprint() of the split's shards; none without shards, and where meta.json has version 1,
    /// whose fingerprints depended on the names of the shards.
    std::optional<uint64_t> fingerprint;

    double bytes_per_token() const {
        return tokens ? static_cast<double>(bytes) / static_cast<double>(tokens) : 0;
    }
};

struct DataMeta {
    std::string tokenizer;  ///< Tokenizer::kind()
    int64_t vocab_size = 0;
    int64_t eos_id = 0;
    double val_fraction = 0;
    uint64_t seed = 0;
    int64_t repaired_documents = 0;  ///< held something that is not UTF-8, now U+FFFD
    int64_t skipped_lines = 0;       ///< of JSON, without a usable text
    int64_t val_tail_tokens = 0;  ///< of the validation split: the end of the corpus, for want of documents
    SplitMeta train, val;
};

/// Throws (kMissingInput), and (kCorruptData) naming the key that is missing or of the wrong type.
DataMeta read_meta(const std::filesystem::path& folder);
std::string to_json(const DataMeta& meta);

}  // namespace pastur
