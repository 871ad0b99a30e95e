#include "data/shards/llmc_header.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kUsedBytes = 12;
constexpr int32_t kMagicU16 = 20240520, kVersionU16 = 1;
constexpr int32_t kMagicU32 = 20240801, kVersionU32 = 7;

}  // namespace

LlmcHeader llmc_header(TokenType type, int64_t tokens) {
    LlmcHeader header{};
    header.words[0] = type == TokenType::kU16 ? kMagicU16 : kMagicU32;
    header.words[1] = type == TokenType::kU16 ? kVersionU16 : kVersionU32;
    header.words[2] = static_cast<int32_t>(tokens);
    return header;
}

bool is_llmc_header(std::span<const std::byte> head) {
    if (head.size() < sizeof(int32_t)) return head.empty();
    int32_t magic;
    std::memcpy(&magic, head.data(), sizeof(magic));
    if (magic == kMagicU16 || magic == kMagicU32) return true;
    if (head.size() <= kUsedBytes) return false;
    const auto rest = head.first(std::min(head.size(), sizeof(LlmcHeader))).subspan(kUsedBytes);
    return std::all_of(rest.begin(), rest.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

TokenFile check_llmc_header(std::span<const std::byte> head, int64_t file_bytes, const std::string& path) {
    if (head.size() < sizeof(LlmcHeader))
        fail(ExitCode::kCorruptData, "{}: cut short ({} bytes, a shard's header alone is {})", path,
             file_bytes, sizeof(LlmcHeader));
    LlmcHeader header;
    std::memcpy(&header, head.data(), sizeof(header));
    const auto [magic, version, count] = std::array{header.words[0], header.words[1], header.words[2]};
    if (magic != kMagicU16 && magic != kMagicU32)
        fail(ExitCode::kCorruptData, "{}: not a token shard (magic {}, expected {} or {})", path, magic,
             kMagicU16, kMagicU32);
    const TokenType type = magic == kMagicU16 ? TokenType::kU16 : TokenType::kU32;
    const int32_t expected = type == TokenType::kU16 ? kVersionU16 : kVersionU32;
    if (version != expected)
        fail(ExitCode::kCorruptData, "{}: shard version {}, expected {}", path, version, expected);
    if (count < 0) fail(ExitCode::kCorruptData, "{}: the header claims {} tokens", path, count);
    constexpr int64_t kHeaderBytes = sizeof(LlmcHeader);
    const int64_t needed = kHeaderBytes + int64_t{count} * bytes_per_token(type);
    if (file_bytes != needed)
        fail(ExitCode::kCorruptData, "{}: {} ({} bytes, expected {} for {} tokens)", path,
             file_bytes < needed ? "cut short" : "bytes after the last token", file_bytes, needed, count);
    return {TokenFormat::kLlmc, type, kHeaderBytes, count};
}

}  // namespace pastur
