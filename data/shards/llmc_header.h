#pragma once
// The header of llm.c's token files: int32[256] with a magic, a version and the number of tokens, then zeros.
#include "data/shards/token_file.h"

namespace pastur {

struct LlmcHeader {
    int32_t words[256];
};

/// The header of `tokens` tokens of type kU16 or kU32.
LlmcHeader llmc_header(TokenType type, int64_t tokens);

/// Whether the first bytes of a file are such a header, also a damaged one: they have one of the magics, or zeros
/// where a header has them. An empty file counts as one that was cut short.
bool is_llmc_header(std::span<const std::byte> head);

/// Checks the header against the size of the file. Throws (kCorruptData) for a wrong magic, version or length.
TokenFile check_llmc_header(std::span<const std::byte> head, int64_t file_bytes, const std::string& path);

}  // namespace pastur
