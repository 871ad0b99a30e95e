#include "data/loader.h"

#include <xxhash.h>

#include <algorithm>

#include "data/mixture.h"
#include "data/permutation.h"
#include "data/token_stream.h"
#include "kernels/base/error.h"
#include "kernels/base/random.h"

namespace pastur {

struct TokenLoader::Impl {
    std::vector<LoaderSource> sources;
    std::vector<TokenStream> streams;
    MixtureSchedule schedule;
    int64_t seq_len;
    uint64_t seed;
    SequenceLayout layout;
    int64_t sequences = 0;

    /// A sequence of one of the streams.
    struct Place {
        const TokenStream& stream;
        int64_t sequence;
    };
    Place of_sequence(int64_t i) const {
        PASTUR_CHECK(i >= 0 && i < sequences, "sequence {} of {}", i, sequences);
        const MixtureSchedule::Place place = schedule.at(i);
        return {streams[place.source], place.index};
    }
    Place of_sample(int64_t sample) const {
        PASTUR_CHECK(sample >= 0, "sample {}", sample);
        const auto [source, index] = schedule.at(sample);
        const TokenStream& stream = streams[source];
        const uint64_t epoch = static_cast<uint64_t>(index / stream.sequences());
        // The first source has the key that it has alone.
        const uint64_t key = source == 0 ? mix64(seed) : mix64(mix64(seed) + source);
        const Permutation order(static_cast<uint64_t>(stream.sequences()), key + epoch * kGoldenGamma);
        return {stream, static_cast<int64_t>(order(static_cast<uint64_t>(index % stream.sequences())))};
    }
    /// The largest number of sequences in storage order that every stream has its part of.
    int64_t count_sequences() const {
        if (streams.size() == 1) return streams[0].sequences();
        int64_t total = 0;
        for (const TokenStream& stream : streams) total += stream.sequences();
        const auto enough = [&](int64_t n) {
            for (size_t k = 0; k < streams.size(); ++k)
                if (schedule.count(k, n) > streams[k].sequences()) return false;
            return true;
        };
        int64_t low = 0, high = total + 1;  // low is enough, high is not
        while (high - low > 1) {
            const int64_t middle = low + (high - low) / 2;
            (enough(middle) ? low : high) = middle;
        }
        return low;
    }
};

namespace {

std::vector<int64_t> weights_of(const std::vector<LoaderSource>& sources) {
    std::vector<int64_t> weights;
    for (const LoaderSource& source : sources) weights.push_back(source.weight);
    return weights;
}

std::vector<TokenStream> open_streams(const std::vector<LoaderSource>& sources, int64_t seq_len,
                                      int64_t vocab, SequenceLayout layout) {
    std::vector<TokenStream> streams;
    std::vector<std::string> folders;
    for (const LoaderSource& source : sources) {
        streams.emplace_back(source.glob, seq_len, vocab, layout);
        folders.push_back(streams.back().folder());
    }
    check_same_tokenizer(folders);
    return streams;
}

}  // namespace

TokenLoader::TokenLoader(const std::string& glob, int64_t seq_len, int64_t vocab, uint64_t seed,
                         SequenceLayout layout)
    : TokenLoader(std::vector{LoaderSource{glob, glob, 1}}, seq_len, vocab, seed, layout) {}

TokenLoader::TokenLoader(std::vector<LoaderSource> sources, int64_t seq_len, int64_t vocab, uint64_t seed,
                         SequenceLayout layout)
    : impl_(new Impl{sources, open_streams(sources, seq_len, vocab, layout),
                     MixtureSchedule(weights_of(sources)), seq_len, seed, layout}) {
    impl_->sequences = impl_->count_sequences();
}

TokenLoader::~TokenLoader() = default;
TokenLoader::TokenLoader(TokenLoader&&) noexcept = default;
TokenLoader& TokenLoader::operator=(TokenLoader&&) noexcept = default;

int64_t TokenLoader::tokens() const {
    int64_t total = 0;
    for (const TokenStream& stream : impl_->streams) total += stream.tokens();
    return total;
}

int64_t TokenLoader::sequences() const {
    return impl_->sequences;
}

std::optional<int32_t> TokenLoader::separator() const {
    const std::optional<int32_t> first = impl_->streams[0].separator();
    for (const TokenStream& stream : impl_->streams)
        if (stream.separator() != first) return std::nullopt;
    return first;
}

uint64_t TokenLoader::fingerprint() const {
    if (impl_->streams.size() == 1) return impl_->streams[0].fingerprint();
    std::vector<uint64_t> parts;
    for (const TokenStream& stream : impl_->streams) parts.push_back(stream.fingerprint());
    return XXH3_64bits(parts.data(), parts.size() * sizeof(uint64_t));
}

void TokenLoader::sequence(int64_t i, std::span<int32_t> out) const {
    const Impl::Place place = impl_->of_sequence(i);
    place.stream.sequence(place.sequence, out);
}

void TokenLoader::sample(int64_t sample, std::span<int32_t> out) const {
    const Impl::Place place = impl_->of_sample(sample);
    place.stream.sequence(place.sequence, out);
}

int64_t TokenLoader::sample_targets(int64_t begin, int64_t end) const {
    if (impl_->layout == SequenceLayout::kStream) return (end - begin) * impl_->seq_len;
    int64_t total = 0;
    for (int64_t i = begin; i < end; ++i) {
        const Impl::Place place = impl_->of_sample(i);
        total += place.stream.targets(place.sequence);
    }
    return total;
}

int64_t TokenLoader::sequence_targets(int64_t begin, int64_t end) const {
    if (impl_->layout == SequenceLayout::kStream) return (end - begin) * impl_->seq_len;
    int64_t total = 0;
    for (int64_t i = begin; i < end; ++i) {
        const Impl::Place place = impl_->of_sequence(i);
        total += place.stream.targets(place.sequence);
    }
    return total;
}

std::vector<TokenLoader::Source> TokenLoader::sources() const {
    std::vector<Source> all;
    for (size_t k = 0; k < impl_->streams.size(); ++k) {
        const TokenStream& stream = impl_->streams[k];
        const double share = static_cast<double>(impl_->schedule.count(k, impl_->schedule.period())) /
                             static_cast<double>(impl_->schedule.period());
        all.push_back(
            {impl_->sources[k].name, share, stream.tokens(), stream.sequences(), stream.fingerprint()});
    }
    return all;
}

std::vector<double> TokenLoader::epochs(int64_t samples) const {
    std::vector<double> all;
    for (size_t k = 0; k < impl_->streams.size(); ++k)
        all.push_back(static_cast<double>(impl_->schedule.count(k, samples)) /
                      static_cast<double>(impl_->streams[k].sequences()));
    return all;
}

std::vector<std::string> TokenLoader::notes() const {
    std::vector<std::string> all;
    for (const TokenStream& stream : impl_->streams)
        all.insert(all.end(), stream.notes().begin(), stream.notes().end());
    return all;
}

}  // namespace pastur
