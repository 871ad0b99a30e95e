#pragma once
// Token shards in llm.c's public format: int32[256] header (magic, version, count), then the tokens.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/open_files.h"
#include "data/output.h"

namespace pastur {

enum class TokenWidth : int { kU16 = 2, kU32 = 4 };  ///< bytes per token

/// uint16 if every id fits.
constexpr TokenWidth width_for(int64_t vocab) {
    return vocab <= 65536 ? TokenWidth::kU16 : TokenWidth::kU32;
}

/// A shard whose header was checked against the size of the file. It is read with pread(2), never mapped: a file
/// that is cut short while it is read is then an error instead of a signal. Reading is thread-safe.
class Shard {
  public:
    /// Tokens are hashed in blocks of so many bytes, the unit in which a sealed shard is read.
    static constexpr int64_t kSealBytes = 16 << 10;

    /// Throws (kMissingInput, kIo), and (kCorruptData) for a wrong magic, version or length.
    explicit Shard(const std::string& path, std::shared_ptr<OpenFiles> files = std::make_shared<OpenFiles>());

    const std::string& path() const { return path_; }
    int64_t tokens() const { return tokens_; }
    TokenWidth width() const { return width_; }
    /// Size of all tokens.
    int64_t bytes() const { return tokens_ * static_cast<int>(width_); }
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
    int64_t tokens_ = 0;
    TokenWidth width_ = TokenWidth::kU16;
    std::vector<uint32_t> seals_;  ///< empty: not sealed
};

/// Glob of the shards that ShardWriter(folder, prefix) writes. The folder's own name is never a pattern.
std::string shard_glob(const std::string& folder, const std::string& prefix);

/// Opens the shards, in this order.
std::vector<Shard> open_shards(const std::vector<std::string>& paths);
/// Opens the shard of this name, or the shards that match it as a glob, sorted by name. Throws as Shard does,
/// and (kMissingInput) when none matches.
std::vector<Shard> open_shards(const std::string& glob);

/// Reads every token once, on `threads` threads, seals the shards and returns a hash of their sizes and tokens.
/// Throws as Shard::read() does, and (kCorruptData), with the position, for the first id that is not below
/// `vocab`.
uint64_t scan_shards(std::vector<Shard>& shards, int64_t vocab, int threads);

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
