#pragma once
// Token shards: files of tokens in a public format (token_file.h). Those that ShardWriter writes are llm.c's.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/output.h"
#include "data/shards/open_files.h"
#include "data/shards/token_file.h"

namespace pastur {

enum class TokenWidth : int { kU16 = 2, kU32 = 4 };  ///< bytes per token that ShardWriter writes

/// uint16 if every id fits.
constexpr TokenWidth width_for(int64_t vocab) {
    return vocab <= 65536 ? TokenWidth::kU16 : TokenWidth::kU32;
}

/// A shard whose header or index was checked against the size of the file. It is read with pread(2), never mapped: a
/// file that is cut short while it is read is then an error instead of a signal. Reading is thread-safe.
class Shard {
  public:
    /// Tokens are hashed in blocks of so many bytes, the unit in which a sealed shard is read.
    static constexpr int64_t kSealBytes = 16 << 10;

    /// path: may name a type (parse_typed_path). Throws as recognise_token_file does, and (kMissingInput).
    explicit Shard(const std::string& path, std::shared_ptr<OpenFiles> files = std::make_shared<OpenFiles>());

    const std::string& path() const { return path_; }
    int64_t tokens() const { return file_.tokens; }
    TokenFormat format() const { return file_.format; }
    TokenType type() const { return file_.type; }
    /// Size of all tokens.
    int64_t bytes() const { return tokens() * bytes_per_token(type()); }
    /// out = tokens [begin, begin + out.size()). Throws (kIo), and (kCorruptData) if the file has become shorter
    /// or, of a sealed shard, a block that holds these tokens has changed.
    void read(int64_t begin, std::span<int32_t> out) const;
    /// out = bytes [begin, begin + out.size()) of the tokens as stored, little-endian, unchecked. Throws (kIo),
    /// and (kCorruptData) if the file has become shorter.
    void read_bytes(int64_t begin, std::span<std::byte> out) const;
    /// From now on read() accepts only blocks with these hashes, seal_of() of each.
    void seal(std::vector<uint32_t> seals) { seals_ = std::move(seals); }
    static uint32_t seal_of(std::span<const std::byte> block);

  private:
    std::string path_;
    std::shared_ptr<OpenFiles> files_;
    TokenFile file_{};
    std::vector<uint32_t> seals_;  ///< empty: not sealed
};

/// Glob of the shards that ShardWriter(folder, prefix) writes. The folder's own name is never a pattern.
std::string shard_glob(const std::string& folder, const std::string& prefix);

/// The paths of the shards that `glob` names: the file of this name, or the files that match it as a glob, sorted by
/// name; empty if there are none. A type before it ("uint16:", "uint32:") stays before each path. Names as other
/// programs use them: an index stands for the tokens beside it, a name without .bin and .idx for a pair of these, and
/// where nothing matches PREFIX_*.bin, the file PREFIX.bin does.
std::vector<std::string> shard_paths(const std::string& glob);

/// Opens the shards, in this order.
std::vector<Shard> open_shards(const std::vector<std::string>& paths);
/// Opens shard_paths(glob). Throws as Shard does, and (kMissingInput) when there are none.
std::vector<Shard> open_shards(const std::string& glob);

/// A sentence for every format without a magic among the shards, saying what they were taken for.
std::vector<std::string> describe_formats(const std::vector<Shard>& shards);

/// Where documents end, found by scan_shards.
struct DocumentScan {
    std::optional<int64_t> eos;  ///< the id that ends a document; none: only indices say it
    std::vector<int64_t>
        ends;  ///< out: positions after the last tokens, in the stream of all shards, ascending
};

/// Reads every token once, on `threads` threads, seals the shards and returns a hash of their sizes and tokens.
/// Throws as Shard::read() does, and (kCorruptData), with the position, for the first id that is not in [0, vocab).
/// documents: if not null, also looks for the ends of documents, in Megatron's indices or behind each `eos`.
uint64_t scan_shards(std::vector<Shard>& shards, int64_t vocab, int threads,
                     DocumentScan* documents = nullptr);

/// Writes `<prefix>_000000.bin`, `<prefix>_000001.bin` ... of at most `shard_tokens` tokens each.
class ShardWriter {
  public:
    ShardWriter(const std::filesystem::path& folder, const std::string& prefix, TokenWidth width,
                int64_t shard_tokens);
    /// Every id must fit the width.
    void write(std::span<const int32_t> tokens);
    /// Completes the last shard.
    void finish();
    /// The paths of the shards so far, in order.
    const std::vector<std::string>& paths() const { return paths_; }

  private:
    void open_next();
    void close();
    std::filesystem::path folder_;
    std::string prefix_;
    TokenWidth width_;
    int64_t shard_tokens_;
    std::unique_ptr<FileWriter> file_;
    int64_t in_file_ = 0;
    std::vector<std::string> paths_;
    std::string encoded_;
};

}  // namespace pastur
