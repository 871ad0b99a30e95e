#include "data/loader.h"

#include <algorithm>

#include "data/parallel.h"
#include "data/permutation.h"
#include "data/shard.h"
#include "kernels/base/error.h"
#include "kernels/base/random.h"

namespace pastur {

struct TokenLoader::Impl {
    std::vector<Shard> shards;
    std::vector<int64_t> starts;  ///< position in the stream of each shard's first token, then of the end
    int64_t seq_len;
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
            shards[s].read(offset, out.first(n));
            out = out.subspan(n);
            begin += static_cast<int64_t>(n);
        }
    }
};

TokenLoader::TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed)
    : impl_(new Impl{open_shards(glob), {0}, seq_len, seed}) {
    PASTUR_CHECK(seq_len >= 1 && vocab >= 1, "seq_len {}, vocab {}", seq_len, vocab);
    Impl& stream = *impl_;
    for (const Shard& shard : stream.shards) stream.starts.push_back(stream.starts.back() + shard.tokens());
    stream.sequences = (tokens() - 1) / seq_len;
    if (stream.sequences < 1)
        fail(ExitCode::kCorruptData, "{} holds {} tokens, but one sequence of data.seq_len = {} needs {}",
             glob, tokens(), seq_len, seq_len + 1);
    stream.fingerprint = scan_shards(stream.shards, vocab, hardware_threads());
    // From here on whole sequences are read in random order: read-ahead beyond them would be thrown away.
    for (const Shard& shard : stream.shards) shard.advise_random();
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
