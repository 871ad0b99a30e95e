#include "data/shard.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <climits>
#include <cstring>
#include <new>

#include "data/files.h"
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
    for (size_t i = 0; i < out.size(); ++i) {
        T id;
        std::memcpy(&id, in + i * sizeof(T), sizeof(T));
        out[i] = static_cast<int32_t>(id);
    }
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
    size_t shard;
    int64_t begin, size;  ///< bytes of the tokens
    uint64_t hash = 0;
    int64_t beyond = -1;  ///< position in the shard of the first id that is too large
};
constexpr int64_t kBlockBytes = 16 << 20;
constexpr int64_t kPieceBytes = 1 << 20;  ///< read at once
static_assert(kBlockBytes % kPieceBytes == 0 && kPieceBytes % Shard::kSealBytes == 0);

std::vector<Block> cut_into_blocks(const std::vector<Shard>& shards) {
    std::vector<Block> blocks;
    for (size_t s = 0; s < shards.size(); ++s)
        for (int64_t begin = 0; begin < shards[s].bytes(); begin += kBlockBytes)
            blocks.push_back({s, begin, std::min(kBlockBytes, shards[s].bytes() - begin)});
    return blocks;
}

void scan_block(const Shard& shard, Block& block, int64_t vocab, std::span<uint32_t> seals) {
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                                XXH3_freeState);
    if (!state) throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, block.size)));
    const auto width = static_cast<int>(shard.width());
    for (int64_t begin = 0; begin < block.size; begin += kPieceBytes) {
        const auto piece =
            std::span(buffer).first(static_cast<size_t>(std::min(kPieceBytes, block.size - begin)));
        shard.read_bytes(block.begin + begin, piece);
        XXH3_64bits_update(state.get(), piece.data(), piece.size());
        for (size_t at = 0; at < piece.size(); at += Shard::kSealBytes)
            seals[(static_cast<size_t>(block.begin + begin) + at) / Shard::kSealBytes] =
                Shard::seal_of(piece.subspan(at, std::min<size_t>(Shard::kSealBytes, piece.size() - at)));
        const int64_t beyond = shard.width() == TokenWidth::kU16 ? first_beyond<uint16_t>(piece, vocab)
                                                                 : first_beyond<uint32_t>(piece, vocab);
        if (beyond >= 0 && block.beyond < 0) block.beyond = (block.begin + begin) / width + beyond;
    }
    block.hash = XXH3_64bits_digest(state.get());
}

}  // namespace

Shard::Shard(const std::string& path, std::shared_ptr<OpenFiles> files)
    : path_(path), files_(std::move(files)) {
    if (!path_exists(path)) fail(ExitCode::kMissingInput, "{}: no such shard", path);
    const std::shared_ptr<const FileDescriptor> file = files_->open(path);
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) fail_io("cannot examine", path);
    if (!S_ISREG(status.st_mode)) fail(ExitCode::kCorruptData, "{}: not a regular file", path);
    if (status.st_size < kHeaderBytes)
        fail(ExitCode::kCorruptData, "{}: cut short ({} bytes, a shard's header alone is {})", path,
             status.st_size, kHeaderBytes);
    Header header;
    read_at(*file, 0, std::as_writable_bytes(std::span(&header, 1)), path);
    width_ = validate(header, status.st_size, path);
    tokens_ = header.words[2];
}

uint32_t Shard::seal_of(std::span<const std::byte> block) {
    return static_cast<uint32_t>(XXH3_64bits(block.data(), block.size()));
}

void Shard::read_bytes(int64_t begin, std::span<std::byte> out) const {
    if (!out.empty()) read_at(*files_->open(path_), kHeaderBytes + begin, out, path_);
}

void Shard::read(int64_t begin, std::span<int32_t> out) const {
    PASTUR_CHECK(begin >= 0 && begin + std::ssize(out) <= tokens_, "tokens {} + {} of {} in {}", begin,
                 out.size(), tokens_, path_);
    const auto width = static_cast<int64_t>(width_);
    const int64_t first = begin * width, end = first + std::ssize(out) * width;
    const int64_t unit = seals_.empty() ? 1 : kSealBytes;
    const int64_t from = first / unit * unit, to = std::min((end + unit - 1) / unit * unit, bytes());
    std::vector<std::byte> stored(static_cast<size_t>(to - from));
    read_bytes(from, stored);
    for (int64_t block = from; !seals_.empty() && block < to; block += kSealBytes) {
        const auto part = std::span<const std::byte>(stored).subspan(
            static_cast<size_t>(block - from), static_cast<size_t>(std::min(kSealBytes, to - block)));
        if (seal_of(part) != seals_[static_cast<size_t>(block / kSealBytes)])
            fail(ExitCode::kCorruptData, "{}: changed while it was in use (tokens {} to {})", path_,
                 block / width, (block + std::ssize(part)) / width - 1);
    }
    const std::byte* const in = stored.data() + (first - from);
    width_ == TokenWidth::kU16 ? widen<uint16_t>(out, in) : widen<uint32_t>(out, in);
}

std::string shard_glob(const std::string& folder, const std::string& prefix) {
    const char* slash = folder.ends_with('/') ? "" : "/";
    return escape_glob(folder) + slash + prefix + "_*.bin";
}

std::vector<Shard> open_shards(const std::vector<std::string>& paths) {
    const auto files = std::make_shared<OpenFiles>();
    std::vector<Shard> shards;
    for (const std::string& path : paths) shards.emplace_back(path, files);
    return shards;
}

std::vector<Shard> open_shards(const std::string& glob) {
    const std::vector<std::string> paths = expand_paths(glob);
    if (paths.empty()) fail(ExitCode::kMissingInput, "no token shard matches {}", glob);
    return open_shards(paths);
}

uint64_t scan_shards(std::vector<Shard>& shards, int64_t vocab, int threads) {
    std::vector<Block> blocks = cut_into_blocks(shards);
    std::vector<std::vector<uint32_t>> seals;
    for (const Shard& shard : shards)
        seals.emplace_back(static_cast<size_t>((shard.bytes() + Shard::kSealBytes - 1) / Shard::kSealBytes));
    parallel_for(std::ssize(blocks), threads, [&](int64_t i) {
        Block& block = blocks[static_cast<size_t>(i)];
        scan_block(shards[block.shard], block, vocab, seals[block.shard]);
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
        append(block.hash);
        if (block.beyond < 0) continue;
        int32_t id = 0;
        shards[block.shard].read(block.beyond, {&id, 1});
        fail(ExitCode::kCorruptData,
             "{}: token {} has id {}: expected ids below model.vocab = {}, the tokenizer's size",
             shards[block.shard].path(), block.beyond, static_cast<uint32_t>(id), vocab);
    }
    for (size_t s = 0; s < shards.size(); ++s) shards[s].seal(std::move(seals[s]));
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
