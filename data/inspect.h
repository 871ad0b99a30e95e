#pragma once
// What token shards hold, read from the shards alone.
#include <cstdint>
#include <string>
#include <vector>

namespace pastur {

/// Shards that belong together: same name up to the number, e.g. train_000000.bin, train_000001.bin.
struct ShardGroup {
    std::string name;
    int64_t shards = 0;
    int64_t tokens = 0;
    int bits = 16;                   ///< of a stored token
    std::string format;              ///< "llm.c", "nanoGPT", "Megatron"; several are separated by ", "
    std::vector<std::string> notes;  ///< describe_formats() of the shards
    int64_t largest_id = -1;         ///< -1 without tokens
    int64_t distinct_ids = 0;
    double unigram_entropy = 0;  ///< nats
    uint64_t fingerprint = 0;    ///< as TokenLoader::fingerprint()
    std::vector<int32_t> head;   ///< the first tokens
};

/// Reads every token of the shards that `where` names: a folder (its *.bin), a file or a glob. Sorts the
/// groups by name. Throws (kMissingInput, kCorruptData, kIo).
std::vector<ShardGroup> inspect_shards(const std::string& where, int64_t head_tokens);

}  // namespace pastur
