#include "data/token_stream.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "data/files.h"
#include "data/meta.h"
#include "data/parallel.h"
#include "kernels/base/error.h"

namespace pastur {

namespace fs = std::filesystem;

namespace {

bool same_names(const std::vector<Shard>& shards, const std::vector<std::string>& paths) {
    return std::equal(shards.begin(), shards.end(), paths.begin(), paths.end(),
                      [](const Shard& shard, const std::string& path) {
                          return fs::path(shard.path()).filename() == fs::path(path).filename();
                      });
}

/// If the shards are a whole split of a folder of `data prepare`, they must be those that it wrote.
void check_against_meta(const std::vector<Shard>& shards, const fs::path& folder, uint64_t fingerprint) {
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

TokenStream::TokenStream(const std::string& glob, int64_t seq_len, int64_t vocab, SequenceLayout layout)
    : shards_(open_shards(glob)), seq_len_(seq_len), vocab_(vocab) {
    PASTUR_CHECK(seq_len >= 1 && vocab >= 1, "seq_len {}, vocab {}", seq_len, vocab);
    for (const Shard& shard : shards_) starts_.push_back(starts_.back() + shard.tokens());
    notes_ = describe_formats(shards_);
    if (layout == SequenceLayout::kStream) {
        sequences_ = (tokens() - 1) / seq_len;
        if (sequences_ < 1)
            fail(ExitCode::kCorruptData, "{} holds {} tokens, but one sequence of data.seq_len = {} needs {}",
                 glob, tokens(), seq_len, seq_len + 1);
        fingerprint_ = scan_shards(shards_, vocab, hardware_threads());
        check_against_meta(shards_, folder(), fingerprint_);
    } else {
        plan_documents(glob, layout);
    }
}

std::optional<int32_t> TokenStream::separator() const {
    constexpr int32_t kGpt2Tokens = 50257, kGpt2Padded = 50304;
    if (path_exists(fs::path(folder()) / kMetaFile)) {
        const int64_t eos = read_meta(folder()).eos_id;
        return eos >= 0 ? std::optional(static_cast<int32_t>(eos)) : std::nullopt;
    }
    if (vocab_ >= kGpt2Tokens && vocab_ <= kGpt2Padded) return kGpt2Tokens - 1;
    return std::nullopt;
}

void TokenStream::plan_documents(const std::string& glob, SequenceLayout layout) {
    DocumentScan documents{separator(), {}};
    const auto indexed = [](const Shard& shard) { return shard.format() == TokenFormat::kMegatron; };
    const bool all_indexed = std::all_of(shards_.begin(), shards_.end(), indexed);
    if (!documents.eos && !all_indexed)
        fail(
            ExitCode::kUsage,
            "set data.packing = \"stream\", or give data with a {} (`data prepare`) or an index of Megatron: nothing "
            "says where the documents of {} end",
            kMetaFile, glob);
    fingerprint_ = scan_shards(shards_, vocab_, hardware_threads(), &documents);
    check_against_meta(shards_, folder(), fingerprint_);
    if (std::any_of(shards_.begin(), shards_.end(), indexed))  // the ends are data of their own
        fingerprint_ = XXH3_64bits_withSeed(documents.ends.data(), documents.ends.size() * sizeof(int64_t),
                                            fingerprint_);
    plan_.emplace(layout, documents.ends, tokens(), seq_len_);
    sequences_ = plan_->sequences();
    if (sequences_ < 1)
        fail(ExitCode::kCorruptData, "{} holds no document of two tokens: expected some for data.packing",
             glob);
    notes_.push_back(fmt::format("{}: {}", glob, plan_->describe()));
}

std::string TokenStream::folder() const {
    const fs::path first = shards_.front().path();
    return first.has_parent_path() ? first.parent_path().string() : ".";
}

/// out = tokens [begin, begin + out.size()) of the stream, from as many shards as they lie in.
void TokenStream::read(int64_t begin, std::span<int32_t> out) const {
    auto s =
        static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1);
    for (; !out.empty(); ++s) {
        const int64_t offset = begin - starts_[s];
        const size_t n = std::min(out.size(), static_cast<size_t>(shards_[s].tokens() - offset));
        const std::span<int32_t> part = out.first(n);
        shards_[s].read(offset, part);
        // A changed block keeps its 32-bit hash once in 2^32 times, or by intent.
        for (const int32_t id : part)
            if (id < 0 || id >= vocab_)
                fail(ExitCode::kCorruptData, "{}: changed while it was in use: id {} is not below {}",
                     shards_[s].path(), static_cast<uint32_t>(id), vocab_);
        out = out.subspan(n);
        begin += static_cast<int64_t>(n);
    }
}

void TokenStream::sequence(int64_t i, std::span<int32_t> out) const {
    PASTUR_CHECK(i >= 0 && i < sequences_, "sequence {} of {}", i, sequences_);
    PASTUR_CHECK(std::ssize(out) == seq_len_ + 1, "{} places for a sequence of {} + 1", out.size(), seq_len_);
    if (!plan_) return read(i * seq_len_, out);
    for (const SequencePlan::Piece& piece : plan_->pieces(i)) {
        read(piece.begin, out.first(static_cast<size_t>(piece.size)));
        out = out.subspan(static_cast<size_t>(piece.size));
    }
    std::fill(out.begin(), out.end(), -1);
}

}  // namespace pastur
