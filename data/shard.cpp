#include "data/shard.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <cstring>

#include "data/parallel.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read as they are");

struct Header {
    int32_t words[256];
};
constexpr int64_t kHeaderBytes = sizeof(Header);
constexpr int32_t kMagicU16 = 20240520, kVersionU16 = 1;
constexpr int32_t kMagicU32 = 20240801, kVersionU32 = 7;

/// Checks the header against the size of the file and returns the width of a token.
TokenWidth validate(const Header& header, int64_t file_bytes, const std::string& path) {
    const auto [magic, version, count] = std::array{header.words[0], header.words[1], header.words[2]};
    if (magic != kMagicU16 && magic != kMagicU32)
        fail(ExitCode::kCorruptData, "{}: not a token shard (magic {}, expected {} or {})", path, magic,
             kMagicU16, kMagicU32);
    const TokenWidth width = magic == kMagicU16 ? TokenWidth::kU16 : TokenWidth::kU32;
    const int32_t expected = width == TokenWidth::kU16 ? kVersionU16 : kVersionU32;
    if (version != expected)
        fail(ExitCode::kCorruptData, "{}: shard version {}, expected {}", path, version, expected);
    if (count < 0) fail(ExitCode::kCorruptData, "{}: the header claims {} tokens", path, count);
    const int64_t needed = kHeaderBytes + int64_t{count} * static_cast<int>(width);
    if (file_bytes != needed)
        fail(ExitCode::kCorruptData, "{}: {} ({} bytes, expected {} for {} tokens)", path,
             file_bytes < needed ? "cut short" : "bytes after the last token", file_bytes, needed, count);
    return width;
}

template <typename T>
void widen(std::span<int32_t> out, const std::byte* in) {
    const T* tokens = reinterpret_cast<const T*>(in);
    std::transform(tokens, tokens + out.size(), out.begin(), [](T id) { return static_cast<int32_t>(id); });
}

template <typename T>
void narrow(std::string& out, std::span<const int32_t> tokens) {
    out.resize(tokens.size() * sizeof(T));
    for (size_t i = 0; i < tokens.size(); ++i) {
        const T id = static_cast<T>(tokens[i]);
        std::memcpy(out.data() + i * sizeof(T), &id, sizeof(T));
    }
}

/// Position of the first id >= vocab in a block of tokens, or -1. Takes the maximum first, because that
/// vectorises.
template <typename T>
int64_t first_beyond(std::span<const std::byte> block, int64_t vocab) {
    const T* tokens = reinterpret_cast<const T*>(block.data());
    const int64_t n = static_cast<int64_t>(block.size() / sizeof(T));
    T largest = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, tokens[i]);
    if (int64_t{largest} < vocab) return -1;
    return std::find_if(tokens, tokens + n, [&](T id) { return int64_t{id} >= vocab; }) - tokens;
}

/// The part of a shard that one thread scans. The fingerprint depends on kBlockBytes.
struct Block {
    const Shard* shard;
    int64_t begin;  ///< byte
    std::span<const std::byte> bytes;
    uint64_t hash;
    int64_t beyond;
};
constexpr int64_t kBlockBytes = 16 << 20;

std::vector<Block> cut_into_blocks(const std::vector<Shard>& shards) {
    std::vector<Block> blocks;
    for (const Shard& shard : shards) {
        const int64_t size = static_cast<int64_t>(shard.bytes().size());
        for (int64_t begin = 0; begin < size; begin += kBlockBytes) {
            const int64_t length = std::min(kBlockBytes, size - begin);
            blocks.push_back({&shard, begin, shard.bytes().subspan(begin, length), 0, -1});
        }
    }
    return blocks;
}

}  // namespace

Shard::Shard(const std::string& path) : path_(path), file_(path) {
    const int64_t bytes = std::ssize(file_.bytes());
    if (bytes < kHeaderBytes)
        fail(ExitCode::kCorruptData, "{}: cut short ({} bytes, a shard's header alone is {})", path, bytes,
             kHeaderBytes);
    Header header;
    std::memcpy(&header, file_.bytes().data(), sizeof(header));
    width_ = validate(header, bytes, path);
    tokens_ = header.words[2];
}

std::span<const std::byte> Shard::bytes() const {
    return file_.bytes().subspan(kHeaderBytes);
}

void Shard::read(int64_t begin, std::span<int32_t> out) const {
    PASTUR_CHECK(begin >= 0 && begin + std::ssize(out) <= tokens_, "tokens {} + {} of {} in {}", begin,
                 out.size(), tokens_, path_);
    const std::byte* first = bytes().data() + begin * static_cast<int>(width_);
    width_ == TokenWidth::kU16 ? widen<uint16_t>(out, first) : widen<uint32_t>(out, first);
}

std::string shard_glob(const std::string& folder, const std::string& prefix) {
    const char* slash = folder.ends_with('/') ? "" : "/";
    return escape_glob(folder) + slash + prefix + "_*.bin";
}

std::vector<Shard> open_shards(const std::vector<std::string>& paths) {
    std::vector<Shard> shards;
    for (const std::string& path : paths) shards.emplace_back(path);
    return shards;
}

std::vector<Shard> open_shards(const std::string& glob) {
    const std::vector<std::string> paths = expand_paths(glob);
    if (paths.empty()) fail(ExitCode::kMissingInput, "no token shard matches {}", glob);
    return open_shards(paths);
}

uint64_t scan_shards(const std::vector<Shard>& shards, int64_t vocab, int threads) {
    std::vector<Block> blocks = cut_into_blocks(shards);
    parallel_for(std::ssize(blocks), threads, [&](int64_t i) {
        Block& block = blocks[i];
        block.hash = XXH3_64bits(block.bytes.data(), block.bytes.size());
        block.beyond = block.shard->width() == TokenWidth::kU16 ? first_beyond<uint16_t>(block.bytes, vocab)
                                                                : first_beyond<uint32_t>(block.bytes, vocab);
    });
    std::string summary;
    const auto append = [&](const auto& value) {
        summary.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    for (const Shard& shard : shards) {
        append(shard.tokens());
        append(static_cast<int64_t>(shard.width()));
    }
    for (const Block& block : blocks) {
        if (block.beyond >= 0) {
            const int64_t position = block.begin / static_cast<int>(block.shard->width()) + block.beyond;
            int32_t id = 0;
            block.shard->read(position, {&id, 1});
            fail(ExitCode::kCorruptData,
                 "{}: token {} has id {}: expected ids below model.vocab = {}, the tokenizer's size",
                 block.shard->path(), position, static_cast<uint32_t>(id), vocab);
        }
        append(block.hash);
    }
    return XXH3_64bits(summary.data(), summary.size());
}

ShardWriter::ShardWriter(const std::filesystem::path& folder, const std::string& prefix, TokenWidth width,
                         int64_t shard_tokens)
    : folder_(folder), prefix_(prefix), width_(width), shard_tokens_(shard_tokens) {
    PASTUR_CHECK(shard_tokens >= 1 && shard_tokens <= INT32_MAX, "{} tokens a shard", shard_tokens);
}

void ShardWriter::open_next() {
    paths_.push_back(folder_ / fmt::format("{}_{:06}.bin", prefix_, paths_.size()));
    file_ = std::make_unique<FileWriter>(paths_.back());
    const Header unfinished{};
    file_->write({reinterpret_cast<const char*>(&unfinished), sizeof(unfinished)});
    in_file_ = 0;
}

void ShardWriter::close() {
    Header header{};
    header.words[0] = width_ == TokenWidth::kU16 ? kMagicU16 : kMagicU32;
    header.words[1] = width_ == TokenWidth::kU16 ? kVersionU16 : kVersionU32;
    header.words[2] = static_cast<int32_t>(in_file_);
    file_->write_at(0, {reinterpret_cast<const char*>(&header), sizeof(header)});
    file_->finish();
    file_.reset();
}

void ShardWriter::write(std::span<const int32_t> tokens) {
    while (!tokens.empty()) {
        if (!file_) open_next();
        const size_t n = static_cast<size_t>(std::min(shard_tokens_ - in_file_, std::ssize(tokens)));
        const std::span<const int32_t> part = tokens.first(n);
        width_ == TokenWidth::kU16 ? narrow<uint16_t>(encoded_, part) : narrow<uint32_t>(encoded_, part);
        file_->write(encoded_);
        in_file_ += static_cast<int64_t>(n);
        if (in_file_ == shard_tokens_) close();
        tokens = tokens.subspan(n);
    }
}

void ShardWriter::finish() {
    if (file_) close();
}

}  // namespace pastur
