#include "data/shards/token_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "data/files.h"
#include "data/shards/llmc_header.h"
#include "data/shards/megatron_index.h"
#include "data/shards/open_files.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

static_assert(std::endian::native == std::endian::little, "tokens are little-endian and read as they are");

struct TypeInfo {
    TokenType type;
    const char* name;
    int64_t bytes;
};
constexpr TypeInfo kTypes[] = {
    {TokenType::kU8, "uint8", 1},  {TokenType::kI8, "int8", 1},    {TokenType::kU16, "uint16", 2},
    {TokenType::kI16, "int16", 2}, {TokenType::kU32, "uint32", 4}, {TokenType::kI32, "int32", 4},
    {TokenType::kI64, "int64", 8},
};

const TypeInfo& info_of(TokenType type) {
    return kTypes[static_cast<size_t>(type)];
}

/// Calls visit.operator()<T>() with the C++ type of a stored token.
template <typename Visit>
auto visit_type(TokenType type, const Visit& visit) {
    switch (type) {
        case TokenType::kU8:
            return visit.template operator()<uint8_t>();
        case TokenType::kI8:
            return visit.template operator()<int8_t>();
        case TokenType::kU16:
            return visit.template operator()<uint16_t>();
        case TokenType::kI16:
            return visit.template operator()<int16_t>();
        case TokenType::kU32:
            return visit.template operator()<uint32_t>();
        case TokenType::kI32:
            return visit.template operator()<int32_t>();
        case TokenType::kI64:
            break;
    }
    return visit.template operator()<int64_t>();
}

bool begins_with(std::span<const std::byte> head, std::string_view magic) {
    return head.size() >= magic.size() && std::memcmp(head.data(), magic.data(), magic.size()) == 0;
}

/// The kind of a file that cannot hold tokens, such as text; "" if it may hold tokens.
std::string_view other_content(std::span<const std::byte> head) {
    using namespace std::string_view_literals;
    constexpr std::array kMagics = {
        std::pair("\x1f\x8b"sv, "gzip"sv),        std::pair("\x28\xb5\x2f\xfd"sv, "Zstandard"sv),
        std::pair("PK\x03\x04"sv, "a zip"sv),     std::pair("\x93NUMPY"sv, "a NumPy array with a header"sv),
        std::pair("PAR1"sv, "Parquet"sv),         std::pair("ARROW1"sv, "Arrow"sv),
        std::pair("MMIDIDX\0\0"sv, "an index"sv),
    };
    for (const auto& [magic, name] : kMagics)
        if (begins_with(head, magic)) return name;
    // Tokens hold control characters as bytes: a 4 KiB of them without one has a probability below 1e-200.
    constexpr size_t kLeast = 128, kMost = 4096;
    const auto printable = [](std::byte byte) {
        const auto c = static_cast<unsigned char>(byte);
        return (c >= 0x20 && c != 0x7f) || (c >= '\t' && c <= '\r');
    };
    const auto start = head.first(std::min(head.size(), kMost));
    if (start.size() >= kLeast && std::all_of(start.begin(), start.end(), printable)) return "text";
    return "";
}

/// See recognise_token_file.
TokenType guess_type(std::span<const std::byte> head, int64_t bytes) {
    constexpr size_t kLeastPairs = 32;
    constexpr uint16_t kHighest = 15;  // ids of 32 bits are below 2^20
    const size_t pairs = head.size() / 4;
    if (bytes % 4 != 0 || pairs < kLeastPairs) return TokenType::kU16;
    uint16_t low = 0, high = 0;
    for (size_t i = 0; i < pairs; ++i) {
        std::array<uint16_t, 2> pair;
        std::memcpy(pair.data(), head.data() + 4 * i, 4);
        low = std::max(low, pair[0]);
        high = std::max(high, pair[1]);
    }
    return high == 0 || (high <= kHighest && low > kHighest) ? TokenType::kU32 : TokenType::kU16;
}

TokenFile headerless(const std::string& path, std::span<const std::byte> head, int64_t bytes,
                     std::optional<TokenType> asked) {
    if (const std::string_view other = other_content(head); !other.empty() && !asked)
        fail(ExitCode::kCorruptData,
             "{}: not a token shard: it holds {} (`pastur data prepare` makes shards of text)", path, other);
    const TokenType type = asked ? *asked : guess_type(head, bytes);
    const int64_t width = bytes_per_token(type);
    if (bytes % width != 0)
        fail(ExitCode::kCorruptData,
             "{}: not a token shard, or cut short: it has no header of llm.c, and its {} bytes are no whole "
             "number of {} tokens",
             path, bytes, name_of(type));
    return {TokenFormat::kNanogpt, type, 0, bytes / width};
}

}  // namespace

int64_t bytes_per_token(TokenType type) {
    return info_of(type).bytes;
}

const char* name_of(TokenType type) {
    return info_of(type).name;
}

const char* name_of(TokenFormat format) {
    constexpr const char* kNames[] = {"llm.c", "nanoGPT", "Megatron"};
    return kNames[static_cast<size_t>(format)];
}

TypedPath parse_typed_path(const std::string& path) {
    for (const TokenType type : {TokenType::kU16, TokenType::kU32}) {
        const std::string prefix = std::string(name_of(type)) + ":";
        if (!path.starts_with(prefix)) continue;
        std::error_code ignored;  // a pattern may be longer than a name can be
        if (std::filesystem::exists(path, ignored)) break;
        return {type, path.substr(prefix.size())};
    }
    return {std::nullopt, path};
}

std::string index_path(const std::string& path) {
    return (path.ends_with(".bin") ? path.substr(0, path.size() - 4) : path) + ".idx";
}

TokenFile recognise_token_file(const std::string& path, const FileDescriptor& file, int64_t bytes,
                               std::optional<TokenType> asked) {
    if (const std::string index = index_path(path); path_exists(index)) {
        const MegatronIndex found = read_megatron_index(index, bytes);
        return {TokenFormat::kMegatron, found.type, 0, found.tokens};
    }
    constexpr int64_t kHead = 1 << 20;
    std::vector<std::byte> head(static_cast<size_t>(std::min<int64_t>(bytes, sizeof(LlmcHeader))));
    read_at(file, 0, head, path);
    if (is_llmc_header(head)) return check_llmc_header(head, bytes, path);
    head.resize(static_cast<size_t>(std::min(bytes, kHead)));
    read_at(file, 0, head, path);
    return headerless(path, head, bytes, asked);
}

void widen_tokens(std::span<int32_t> out, std::span<const std::byte> in, TokenType type) {
    visit_type(type, [&]<typename T>() {
        for (size_t i = 0; i < out.size(); ++i) {
            T id;
            std::memcpy(&id, in.data() + i * sizeof(T), sizeof(T));
            const bool fits = sizeof(T) < 8 || (id >= T{0} && int64_t(id) <= INT32_MAX);
            out[i] = fits ? static_cast<int32_t>(id) : -1;
        }
    });
}

BadToken first_bad_token(std::span<const std::byte> piece, TokenType type, int64_t vocab) {
    return visit_type(type, [&]<typename T>() {
        const T* const tokens = reinterpret_cast<const T*>(piece.data());
        const T* const end = tokens + piece.size() / sizeof(T);
        // The extremes are taken first, because that vectorises.
        T largest = 0, smallest = 0;
        for (const T* id = tokens; id < end; ++id) {
            largest = std::max(largest, *id);
            smallest = std::min(smallest, *id);
        }
        if (int64_t{largest} < vocab && int64_t{smallest} >= 0) return BadToken();
        const T* const bad =
            std::find_if(tokens, end, [&](T id) { return int64_t{id} >= vocab || int64_t{id} < 0; });
        return BadToken{bad - tokens, int64_t{*bad}};
    });
}

void append_ends(std::vector<int64_t>& ends, std::span<const std::byte> piece, TokenType type, int64_t id,
                 int64_t begin) {
    visit_type(type, [&]<typename T>() {
        const T* const tokens = reinterpret_cast<const T*>(piece.data());
        const auto count = static_cast<int64_t>(piece.size() / sizeof(T));
        for (int64_t i = 0; i < count; ++i)
            if (int64_t{tokens[i]} == id) ends.push_back(begin + i + 1);
    });
}

}  // namespace pastur
