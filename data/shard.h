#pragma once
// Token shards in llm.c's public format: int32[256] header (magic, version, count), then the tokens.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/files.h"
#include "data/output.h"

namespace pastur {

enum class TokenWidth : int { kU16 = 2, kU32 = 4 };  ///< bytes per token

/// uint16 if every id fits.
constexpr TokenWidth width_for(int64_t vocab) {
    return vocab <= 65536 ? TokenWidth::kU16 : TokenWidth::kU32;
}

/// A mapped shard whose header was checked against the size of the file. Movable: the tokens stay in place.
class Shard {
  public:
    /// Throws (kMissingInput, kIo), and (kCorruptData) for a wrong magic, version or length.
    explicit Shard(const std::string& path);

    const std::string& path() const { return path_; }
    int64_t tokens() const { return tokens_; }
    TokenWidth width() const { return width_; }
    /// The tokens as stored, little-endian.
    std::span<const std::byte> bytes() const;
    /// out = tokens [begin, begin + out.size()).
    void read(int64_t begin, std::span<int32_t> out) const;
    /// Tells the kernel that reads come in random order: no read-ahead.
    void advise_random() const { file_.advise_random(); }

  private:
    std::string path_;
    MappedFile file_;
    int64_t tokens_ = 0;
    TokenWidth width_ = TokenWidth::kU16;
};

/// Glob of the shards that ShardWriter(folder, prefix) writes. The folder's own name is never a pattern.
std::string shard_glob(const std::string& folder, const std::string& prefix);

/// Maps the shards, in this order.
std::vector<Shard> open_shards(const std::vector<std::string>& paths);
/// Maps the shard of this name, or the shards that match it as a glob, sorted by name. Throws as Shard does,
/// and (kMissingInput) when none matches.
std::vector<Shard> open_shards(const std::string& glob);

/// Reads every token once, on `threads` threads, and returns a hash of the shards' file names, sizes and
/// tokens. Throws (kCorruptData), with the position, for the first id that is not below `vocab`.
uint64_t scan_shards(const std::vector<Shard>& shards, int64_t vocab, int threads);

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
