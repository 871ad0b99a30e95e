#pragma once
// Megatron's index of a file of tokens (megatron/core/datasets/indexed_dataset.py, version 1), little-endian:
//     9 bytes "MMIDIDX\0\0", uint64 1, uint8 code of the type, uint64 S, uint64 D,
//     int32[S] tokens of each sequence, int64[S] byte at which it begins, int64[D] first sequence of each document and,
//     last, S; int8[S] modes of multimodal data, which may be absent.
#include "data/shards/token_file.h"

namespace pastur {

struct MegatronIndex {
    TokenType type;
    int64_t tokens = 0;
    int64_t documents = 0;
    std::vector<int64_t> document_ends;  ///< the position after each document's last token; only if asked for
};

/// Reads the index of a file of `bin_bytes` bytes, in pieces: memory does not grow with it unless `with_ends`. It is
/// read with pread(2), as shards are. Throws (kMissingInput, kIo), and (kCorruptData) unless the sequences lie one after
/// the other, without gap or overlap, from the first byte of the tokens to the last, and the documents are whole
/// sequences in their order.
MegatronIndex read_megatron_index(const std::string& path, int64_t bin_bytes, bool with_ends = false);

}  // namespace pastur
