#include "data/inspect.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "data/files.h"
#include "data/parallel.h"
#include "data/shards/shard.h"
#include "data/split_writer.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

constexpr int64_t kBlockTokens = 1 << 16;

/// "train" for "train_000012.bin"; a name without a number is a group of its own.
std::string group_of(const std::string& path) {
    std::string name = fs::path(path).stem();
    const size_t end = name.find_last_not_of("0123456789");
    if (end == name.npos || end + 1 == name.size()) return name;
    name.resize(end + 1);
    if (name.size() > 1 && name.ends_with('_')) name.pop_back();
    return name;
}

template <typename Use>
void for_each_token(const Shard& shard, const Use& use) {
    std::vector<int32_t> block(kBlockTokens);
    for (int64_t begin = 0; begin < shard.tokens(); begin += kBlockTokens) {
        const auto part = std::span(block).first(std::min(kBlockTokens, shard.tokens() - begin));
        shard.read(begin, part);
        for (const int32_t id : part) use(static_cast<uint32_t>(id));
    }
}

ShardGroup describe(const std::string& name, std::vector<Shard> shards, int64_t head_tokens) {
    constexpr int64_t kAnyId = int64_t{1} << 32;
    ShardGroup group;
    group.name = name;
    group.fingerprint = scan_shards(shards, kAnyId, hardware_threads());
    group.shards = std::ssize(shards);
    group.notes = describe_formats(shards);
    for (const Shard& shard : shards) {
        group.tokens += shard.tokens();
        group.bits = 8 * static_cast<int>(bytes_per_token(shard.type()));
        const std::string format = name_of(shard.format());
        if (group.format.find(format) == group.format.npos)
            group.format += (group.format.empty() ? "" : ", ") + format;
        const int64_t wanted = std::min(head_tokens - std::ssize(group.head), shard.tokens());
        std::vector<int32_t> head(static_cast<size_t>(wanted));
        shard.read(0, head);
        group.head.insert(group.head.end(), head.begin(), head.end());
    }
    // Ids of damaged shards can be anything below 2^32: large ones are counted in a map.
    std::vector<std::map<uint32_t, int64_t>> rare(shards.size());
    constexpr uint32_t kCommon = 1 << 18;
    std::vector<std::vector<int64_t>> common(shards.size());
    parallel_for(group.shards, hardware_threads(), [&](int64_t s) {
        common[s].resize(kCommon);
        for_each_token(shards[s], [&](uint32_t id) { id < kCommon ? ++common[s][id] : ++rare[s][id]; });
    });
    std::map<uint32_t, int64_t> counts;
    for (size_t s = 0; s < shards.size(); ++s) {
        for (uint32_t id = 0; id < kCommon; ++id)
            if (common[s][id] > 0) counts[id] += common[s][id];
        for (const auto& [id, count] : rare[s]) counts[id] += count;
    }
    if (counts.empty()) return group;
    group.largest_id = counts.rbegin()->first;
    group.distinct_ids = std::ssize(counts);
    std::vector<int64_t> values;
    for (const auto& entry : counts) values.push_back(entry.second);
    group.unigram_entropy = entropy_of(values);
    return group;
}

}  // namespace

std::vector<ShardGroup> inspect_shards(const std::string& where, int64_t head_tokens) {
    std::vector<std::string> paths;
    if (fs::is_directory(where)) {
        for (const fs::directory_entry& entry : fs::directory_iterator(where))
            if (entry.path().extension() == ".bin") paths.push_back(entry.path());
        std::sort(paths.begin(), paths.end());
        if (paths.empty()) fail(ExitCode::kMissingInput, "{}: no token shard (*.bin) in it", where);
    } else {
        paths = shard_paths(where);
        if (paths.empty()) fail(ExitCode::kMissingInput, "no such folder, shard or glob: {}", where);
    }
    std::map<std::string, std::vector<std::string>> names;
    for (const std::string& path : paths) names[group_of(path)].push_back(path);
    std::vector<ShardGroup> groups;
    for (const auto& [name, members] : names)
        groups.push_back(describe(name, open_shards(members), head_tokens));
    return groups;
}

}  // namespace pastur
