#pragma once
// Files of tokens in three public formats, told apart by what they hold.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/file_descriptor.h"

namespace pastur {

/// A stored token, little-endian.
enum class TokenType : uint8_t { kU8, kI8, kU16, kI16, kU32, kI32, kI64 };

int64_t bytes_per_token(TokenType type);
/// "uint16".
const char* name_of(TokenType type);

/// kLlmc: a header of int32[256] (magic, version, count), then the tokens. kNanogpt: the tokens alone. kMegatron: the
/// tokens alone, with an index of the same name that ends in .idx (megatron_index.h).
enum class TokenFormat : uint8_t { kLlmc, kNanogpt, kMegatron };
/// "llm.c".
const char* name_of(TokenFormat format);

/// Where the tokens of a file are.
struct TokenFile {
    TokenFormat format;
    TokenType type;
    int64_t offset;  ///< of the first token, in bytes
    int64_t tokens;
};

/// A path may name the type of headerless tokens: "uint32:DIR/train.bin". A file of that whole name has priority.
struct TypedPath {
    std::optional<TokenType> type;
    std::string path;
};
TypedPath parse_typed_path(const std::string& path);

/// The name of the Megatron index of a file of tokens: the path with .idx in place of .bin, or behind it.
std::string index_path(const std::string& path);

/// Decides the format of an open file of `bytes` bytes:
/// - with an index beside it, Megatron's;
/// - with a magic of llm.c, or 1012 zeros where its header has them, llm.c's;
/// - otherwise tokens without a header, as nanoGPT writes them: of the type that was asked for, or uint32 where the
///   upper halves of all words of the first MiB are 0, or below 16 (ids below 2^20) and some lower half is not, and
///   uint16 anywhere else, also in a file of fewer than 32 words.
/// Throws (kIo), and (kCorruptData) for a file that is cut short or has bytes after its last token, for a damaged
/// header or index, and for files of other kinds: text, archives and arrays of NumPy.
TokenFile recognise_token_file(const std::string& path, const FileDescriptor& file, int64_t bytes,
                               std::optional<TokenType> asked);

/// out = `in` as 32-bit ids. An id that does not fit becomes -1.
void widen_tokens(std::span<int32_t> out, std::span<const std::byte> in, TokenType type);

/// The first id of a piece that is not in [0, vocab), and its position; none: position -1.
struct BadToken {
    int64_t position = -1;
    int64_t id = 0;
};
BadToken first_bad_token(std::span<const std::byte> piece, TokenType type, int64_t vocab);

/// Appends begin + i + 1 for each token i of the piece that is `id`: the ends of documents.
void append_ends(std::vector<int64_t>& ends, std::span<const std::byte> piece, TokenType type, int64_t id,
                 int64_t begin);

}  // namespace pastur
