#include "data/loader.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "data/files.h"
#include "data/meta.h"
#include "data/parallel.h"
#include "data/permutation.h"
#include "data/shard.h"
#include "kernels/base/error.h"
#include "kernels/base/random.h"

namespace pastur {

namespace fs = std::filesystem;

struct TokenLoader::Impl {
    std::vector<Shard> shards;
    std::vector<int64_t> starts;  ///< position in the stream of each shard's first token, then of the end
    int64_t seq_len, vocab;
    uint64_t seed;
    int64_t sequences = 0;
    uint64_t fingerprint = 0;

    /// out = tokens [begin, begin + out.size()) of the stream, from as many shards as they lie in.
    void read(int64_t begin, std::span<int32_t> out) const {
        size_t s =
            static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), begin) - starts.begin() - 1);
        for (; !out.empty(); ++s) {
            const int64_t offset = begin - starts[s];
            const size_t n = std::min(out.size(), static_cast<size_t>(shards[s].tokens() - offset));
            const std::span<int32_t> part = out.first(n);
            shards[s].read(offset, part);
            // A changed block keeps its 32-bit hash once in 2^32 times, or by intent.
            for (const int32_t id : part)
                if (id < 0 || id >= vocab)
                    fail(ExitCode::kCorruptData, "{}: changed while it was in use: id {} is not below {}",
                         shards[s].path(), static_cast<uint32_t>(id), vocab);
            out = out.subspan(n);
            begin += static_cast<int64_t>(n);
        }
    }
};

namespace {

bool same_names(const std::vector<Shard>& shards, const std::vector<std::string>& paths) {
    return std::equal(shards.begin(), shards.end(), paths.begin(), paths.end(),
                      [](const Shard& shard, const std::string& path) {
                          return fs::path(shard.path()).filename() == fs::path(path).filename();
                      });
}

/// If the shards are a whole split of a folder of `data prepare`, they must be those that it wrote.
void check_against_meta(const std::vector<Shard>& shards, uint64_t fingerprint) {
    const fs::path first = shards.front().path();
    const fs::path folder = first.has_parent_path() ? first.parent_path() : fs::path(".");
    if (!path_exists(folder / kMetaFile)) return;
    for (const char* const split : {"train", "val"}) {
        if (!same_names(shards, expand_paths(shard_glob(folder, split)))) continue;
        const DataMeta meta = read_meta(folder);
        const SplitMeta& written = std::string_view(split) == "train" ? meta.train : meta.val;
        int64_t tokens = 0;
        for (const Shard& shard : shards) tokens += shard.tokens();
        const bool same = written.fingerprint
                              ? fingerprint == written.fingerprint
                              : tokens == written.tokens && std::ssize(shards) == written.shards;
        if (!same)
            fail(
                ExitCode::kCorruptData,
                "{}: the shards {}_*.bin ({} with {} tokens) are not those that {} describes ({} with {} tokens): "
                "restore them, or remove {} if they were changed on purpose",
                folder.string(), split, shards.size(), tokens, kMetaFile, written.shards, written.tokens,
                kMetaFile);
    }
}

}  // namespace

TokenLoader::TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed)
    : impl_(new Impl{open_shards(glob), {0}, seq_len, vocab, seed}) {
    PASTUR_CHECK(seq_len >= 1 && vocab >= 1, "seq_len {}, vocab {}", seq_len, vocab);
    Impl& stream = *impl_;
    for (const Shard& shard : stream.shards) stream.starts.push_back(stream.starts.back() + shard.tokens());
    stream.sequences = (tokens() - 1) / seq_len;
    if (stream.sequences < 1)
        fail(ExitCode::kCorruptData, "{} holds {} tokens, but one sequence of data.seq_len = {} needs {}",
             glob, tokens(), seq_len, seq_len + 1);
    stream.fingerprint = scan_shards(stream.shards, vocab, hardware_threads());
    check_against_meta(stream.shards, stream.fingerprint);
}

TokenLoader::~TokenLoader() = default;
TokenLoader::TokenLoader(TokenLoader&&) noexcept = default;
TokenLoader& TokenLoader::operator=(TokenLoader&&) noexcept = default;

int64_t TokenLoader::tokens() const {
    return impl_->starts.back();
}
int64_t TokenLoader::sequences() const {
    return impl_->sequences;
}
uint64_t TokenLoader::fingerprint() const {
    return impl_->fingerprint;
}

void TokenLoader::sequence(int64_t i, std::span<int32_t> out) const {
    PASTUR_CHECK(i >= 0 && i < sequences(), "sequence {} of {}", i, sequences());
    PASTUR_CHECK(std::ssize(out) == impl_->seq_len + 1, "{} places for a sequence of {} + 1", out.size(),
                 impl_->seq_len);
    impl_->read(i * impl_->seq_len, out);
}

void TokenLoader::sample(int64_t sample, std::span<int32_t> out) const {
    PASTUR_CHECK(sample >= 0, "sample {}", sample);
    const uint64_t epoch = static_cast<uint64_t>(sample / sequences());
    const Permutation order(static_cast<uint64_t>(sequences()), mix64(impl_->seed) + epoch * kGoldenGamma);
    sequence(static_cast<int64_t>(order(static_cast<uint64_t>(sample % sequences()))), out);
}

}  // namespace pastur
