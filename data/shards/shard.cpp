#include "data/shards/shard.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <map>
#include <new>
#include <string_view>

#include "data/files.h"
#include "data/parallel.h"
#include "data/shards/llmc_header.h"
#include "data/shards/megatron_index.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

template <typename T>
void narrow(std::string& out, std::span<const int32_t> tokens) {
    out.resize(tokens.size() * sizeof(T));
    for (size_t i = 0; i < tokens.size(); ++i) {
        const T id = static_cast<T>(tokens[i]);
        std::memcpy(out.data() + i * sizeof(T), &id, sizeof(T));
    }
}

/// The part of a shard that one thread scans. The fingerprint depends on kBlockBytes.
struct Block {
    size_t shard;
    int64_t begin, size;  ///< bytes of the tokens
    uint64_t hash = 0;
    BadToken bad{};               ///< its position is in the shard
    std::vector<int64_t> ends{};  ///< of documents, as positions in the shard
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

void scan_block(const Shard& shard, Block& block, int64_t vocab, std::span<uint32_t> seals,
                std::optional<int64_t> eos) {
    const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                                XXH3_freeState);
    if (!state) throw std::bad_alloc();
    XXH3_64bits_reset(state.get());
    std::vector<std::byte> buffer(static_cast<size_t>(std::min(kPieceBytes, block.size)));
    const int64_t width = bytes_per_token(shard.type());
    for (int64_t begin = 0; begin < block.size; begin += kPieceBytes) {
        const auto piece =
            std::span(buffer).first(static_cast<size_t>(std::min(kPieceBytes, block.size - begin)));
        shard.read_bytes(block.begin + begin, piece);
        XXH3_64bits_update(state.get(), piece.data(), piece.size());
        for (size_t at = 0; at < piece.size(); at += Shard::kSealBytes)
            seals[(static_cast<size_t>(block.begin + begin) + at) / Shard::kSealBytes] =
                Shard::seal_of(piece.subspan(at, std::min<size_t>(Shard::kSealBytes, piece.size() - at)));
        const int64_t first = (block.begin + begin) / width;
        if (block.bad.position < 0) {
            block.bad = first_bad_token(piece, shard.type(), vocab);
            if (block.bad.position >= 0) block.bad.position += first;
        }
        if (eos) append_ends(block.ends, piece, shard.type(), *eos, first);
    }
    block.hash = XXH3_64bits_digest(state.get());
}

}  // namespace

Shard::Shard(const std::string& path, std::shared_ptr<OpenFiles> files) : files_(std::move(files)) {
    const TypedPath typed = parse_typed_path(path);
    path_ = typed.path;
    if (!path_exists(path_)) fail(ExitCode::kMissingInput, "{}: no such shard", path_);
    const std::shared_ptr<const FileDescriptor> file = files_->open(path_);
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) fail_io("cannot examine", path_);
    if (!S_ISREG(status.st_mode)) fail(ExitCode::kCorruptData, "{}: not a regular file", path_);
    file_ = recognise_token_file(path_, *file, status.st_size, typed.type);
}

uint32_t Shard::seal_of(std::span<const std::byte> block) {
    return static_cast<uint32_t>(XXH3_64bits(block.data(), block.size()));
}

void Shard::read_bytes(int64_t begin, std::span<std::byte> out) const {
    if (!out.empty()) read_at(*files_->open(path_), file_.offset + begin, out, path_);
}

void Shard::read(int64_t begin, std::span<int32_t> out) const {
    PASTUR_CHECK(begin >= 0 && begin + std::ssize(out) <= tokens(), "tokens {} + {} of {} in {}", begin,
                 out.size(), tokens(), path_);
    const int64_t width = bytes_per_token(type());
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
    widen_tokens(out, std::span(stored).subspan(static_cast<size_t>(first - from)), type());
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

std::vector<std::string> shard_paths(const std::string& glob) {
    const auto [type, name] = parse_typed_path(glob);
    std::vector<std::string> paths = expand_paths(name);
    constexpr std::string_view kNumbered = "_*.bin";
    if (paths.empty() && path_exists(name + ".bin") && path_exists(name + ".idx")) paths = {name + ".bin"};
    if (paths.empty() && name.ends_with(kNumbered))
        paths = expand_paths(name.substr(0, name.size() - kNumbered.size()) + ".bin");
    for (std::string& path : paths) {
        if (path.ends_with(".idx")) path.replace(path.size() - 4, 4, ".bin");
        if (type) path.insert(0, std::string(name_of(*type)) + ":");
    }
    std::sort(paths.begin(), paths.end());
    paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
    return paths;
}

std::vector<Shard> open_shards(const std::string& glob) {
    const std::vector<std::string> paths = shard_paths(glob);
    if (paths.empty()) fail(ExitCode::kMissingInput, "no token shard matches {}", glob);
    return open_shards(paths);
}

std::vector<std::string> describe_formats(const std::vector<Shard>& shards) {
    struct Group {
        std::string first;
        int64_t files = 0, tokens = 0;
    };
    std::map<std::pair<TokenFormat, TokenType>, Group> groups;
    for (const Shard& shard : shards) {
        if (shard.format() == TokenFormat::kLlmc) continue;
        Group& group = groups[{shard.format(), shard.type()}];
        if (group.files++ == 0) group.first = shard.path();
        group.tokens += shard.tokens();
    }
    std::vector<std::string> lines;
    for (const auto& [kind, group] : groups) {
        const std::string files =
            group.files == 1 ? group.first : fmt::format("{} and {} more", group.first, group.files - 1);
        lines.push_back(kind.first == TokenFormat::kMegatron
                            ? fmt::format("{}: read as Megatron's {} tokens ({}), by the index beside it",
                                          files, name_of(kind.second), group.tokens)
                            : fmt::format("{}: no header, taken for {} tokens ({}), as nanoGPT writes them",
                                          files, name_of(kind.second), group.tokens));
    }
    return lines;
}

namespace {

/// The number that stands for the type in the fingerprint: bytes, negative if signed.
int64_t code_of(TokenType type) {
    const bool is_signed = *name_of(type) == 'i';
    return is_signed ? -bytes_per_token(type) : bytes_per_token(type);
}

[[noreturn]] void fail_bad_token(const Shard& shard, const BadToken& bad, int64_t vocab) {
    const std::string guess =
        shard.format() == TokenFormat::kNanogpt
            ? fmt::format(" (the file has no header and was taken for {} tokens)", name_of(shard.type()))
            : "";
    fail(ExitCode::kCorruptData,
         "{}: token {} has id {}: expected ids below model.vocab = {}, the tokenizer's size{}", shard.path(),
         bad.position, bad.id, vocab, guess);
}

/// The ends of the documents of all shards, as positions in their stream.
std::vector<int64_t> gather_ends(const std::vector<Shard>& shards, const std::vector<Block>& blocks) {
    std::vector<int64_t> ends;
    int64_t start = 0;
    auto block = blocks.begin();
    for (size_t s = 0; s < shards.size(); start += shards[s++].tokens()) {
        for (; block != blocks.end() && block->shard == s; ++block)
            for (const int64_t end : block->ends) ends.push_back(start + end);
        if (shards[s].format() != TokenFormat::kMegatron) continue;
        const std::string& path = shards[s].path();
        for (const int64_t end : read_megatron_index(index_path(path), shards[s].bytes(), true).document_ends)
            ends.push_back(start + end);
    }
    return ends;
}

}  // namespace

uint64_t scan_shards(std::vector<Shard>& shards, int64_t vocab, int threads, DocumentScan* documents) {
    std::vector<Block> blocks = cut_into_blocks(shards);
    std::vector<std::vector<uint32_t>> seals;
    for (const Shard& shard : shards)
        seals.emplace_back(static_cast<size_t>((shard.bytes() + Shard::kSealBytes - 1) / Shard::kSealBytes));
    parallel_for(std::ssize(blocks), threads, [&](int64_t i) {
        Block& block = blocks[static_cast<size_t>(i)];
        const Shard& shard = shards[block.shard];
        const bool looks_for_eos = documents && shard.format() != TokenFormat::kMegatron;
        scan_block(shard, block, vocab, seals[block.shard], looks_for_eos ? documents->eos : std::nullopt);
    });
    std::string summary;
    const auto append = [&](const auto& value) {
        summary.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    for (const Shard& shard : shards) {
        append(shard.tokens());
        append(code_of(shard.type()));
    }
    for (const Block& block : blocks) {
        append(block.hash);
        if (block.bad.position >= 0) fail_bad_token(shards[block.shard], block.bad, vocab);
    }
    for (size_t s = 0; s < shards.size(); ++s) shards[s].seal(std::move(seals[s]));
    if (documents) documents->ends = gather_ends(shards, blocks);
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
    const LlmcHeader unfinished{};
    file_->write({reinterpret_cast<const char*>(&unfinished), sizeof(unfinished)});
    in_file_ = 0;
}

void ShardWriter::close() {
    const LlmcHeader header =
        llmc_header(width_ == TokenWidth::kU16 ? TokenType::kU16 : TokenType::kU32, in_file_);
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
