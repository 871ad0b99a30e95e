#include "engine/train/scoring/scored_stream.h"

#include <algorithm>
#include <cstring>

#include "data/corpus/utf8.h"
#include "data/files.h"
#include "data/shards/token_file.h"
#include "engine/train/scoring/text_rules.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

void add_text(TextSize& size, std::string_view text) {
    size.bytes += std::ssize(text);
    size.words += is_utf8(text) ? count_words(text) : count_words(repair_utf8(text));
}

/// The text of tokens that arrive piece by piece. A document is decoded as a whole, because tokens may hold parts of
/// characters; only documents beyond kMostTokens are cut.
class DecodedSize {
  public:
    explicit DecodedSize(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
    void add(std::span<const int32_t> ids) {
        for (const int32_t id : ids) {
            if (id == tokenizer_->eos_id() || pending_.size() == kMostTokens) flush();
            if (id != tokenizer_->eos_id()) pending_.push_back(id);
        }
    }
    TextSize size() const {
        TextSize all = size_;
        add_text(all, tokenizer_->decode(pending_));
        return all;
    }

  private:
    static constexpr size_t kMostTokens = 1 << 20;
    void flush() {
        add_text(size_, tokenizer_->decode(pending_));
        pending_.clear();
    }
    std::shared_ptr<const Tokenizer> tokenizer_;
    TextSize size_;
    std::vector<int32_t> pending_;
};

class ShardStream final : public ScoredStream {
  public:
    ShardStream(std::shared_ptr<const TokenLoader> data, const StreamLimits& limits,
                std::shared_ptr<const Tokenizer> tokenizer)
        : data_(std::move(data)),
          sequences_(data_->sequences()),
          sequence_(static_cast<size_t>(limits.seq_len + 1)) {
        if (limits.max_tokens > 0)
            sequences_ = std::clamp<int64_t>(limits.max_tokens / limits.seq_len, 1, sequences_);
        separator_ = data_->separator().value_or(tokenizer ? tokenizer->eos_id() : -1);
        if (tokenizer) decoded_.emplace(std::move(tokenizer));
    }
    bool next(std::vector<int32_t>& out) override {
        if (next_ == sequences_) return false;
        data_->sequence(next_, sequence_);
        out.insert(out.end(), sequence_.begin() + (next_ == 0 ? 0 : 1), sequence_.end());
        if (decoded_) decoded_->add(std::span(sequence_).subspan(1));
        ++next_;
        return true;
    }
    int32_t separator() const override { return separator_; }
    std::optional<TextSize> text() const override {
        return decoded_ ? std::optional(decoded_->size()) : std::nullopt;
    }
    std::vector<std::string> notes() const override { return data_->notes(); }

  private:
    std::shared_ptr<const TokenLoader> data_;
    int64_t sequences_, next_ = 0;
    std::vector<int32_t> sequence_;
    int32_t separator_ = -1;
    std::optional<DecodedSize> decoded_;
};

class TextStream final : public ScoredStream {
  public:
    TextStream(const std::vector<std::string>& files, const CorpusFormat& format, const StreamLimits& limits,
               std::shared_ptr<const Tokenizer> tokenizer)
        : reader_(files, format),
          parser_(format),
          left_(limits.max_tokens > 0 ? limits.max_tokens : INT64_MAX),
          name_(files.front()),
          tokenizer_(std::move(tokenizer)),
          encoder_(tokenizer_->make_encoder()) {}

    bool next(std::vector<int32_t>& out) override {
        if (left_ == 0) return false;
        const Document document = next_document();
        if (document.text.empty()) {
            if (!any_) fail(ExitCode::kCorruptData, "{}: expected a document with text in it", name_);
            return false;
        }
        if (!any_) out.push_back(tokenizer_->eos_id());
        any_ = true;
        std::vector<int32_t> ids;
        encoder_->encode(document.text, ids);
        if (std::ssize(ids) <= left_) {
            add_text(text_, document.text);
        } else {
            ids.resize(static_cast<size_t>(left_));
            add_text(text_, tokenizer_->decode(ids));
        }
        left_ -= std::ssize(ids);
        out.insert(out.end(), ids.begin(), ids.end());
        if (left_ == 0) return true;
        out.push_back(tokenizer_->eos_id());
        --left_;
        return true;
    }
    int32_t separator() const override { return tokenizer_->eos_id(); }
    std::optional<TextSize> text() const override { return text_; }

  private:
    /// The next document that is not blank; an empty text at the end.
    Document next_document() {
        constexpr int64_t kBatchBytes = 256 << 10;
        while (true) {
            for (; next_ < batch_.documents.size();) {
                Document document = parser_.parse(batch_, batch_.documents[next_++]);
                if (!document.problem.empty()) fail(ExitCode::kCorruptData, "{}", document.problem);
                if (!document.is_blank()) return document;
            }
            next_ = 0;
            if (!reader_.next(batch_, kBatchBytes)) return {};
        }
    }
    CorpusReader reader_;
    DocumentParser parser_;
    RawDocuments batch_;
    size_t next_ = 0;  ///< in the batch
    int64_t left_;     ///< targets
    bool any_ = false;
    std::string name_;
    std::shared_ptr<const Tokenizer> tokenizer_;
    std::unique_ptr<Tokenizer::Encoder> encoder_;
    TextSize text_;
};

}  // namespace

std::unique_ptr<ScoredStream> shard_stream(std::shared_ptr<const TokenLoader> data,
                                           const StreamLimits& limits,
                                           std::shared_ptr<const Tokenizer> tokenizer) {
    return std::make_unique<ShardStream>(std::move(data), limits, std::move(tokenizer));
}

std::unique_ptr<ScoredStream> text_stream(const std::vector<std::string>& files, const CorpusFormat& format,
                                          const StreamLimits& limits,
                                          std::shared_ptr<const Tokenizer> tokenizer) {
    return std::make_unique<TextStream>(files, format, limits, std::move(tokenizer));
}

bool is_shard(const std::string& path) {
    if (parse_typed_path(path).type || path.ends_with(".bin") || path.ends_with(".idx")) return true;
    constexpr int32_t kMagic[] = {20240520, 20240801};  // shard.h
    int32_t word = 0;
    char bytes[sizeof word];
    const size_t read = read_some(open_input(path), bytes, path);
    std::memcpy(&word, bytes, sizeof word);
    return read == sizeof word && std::find(std::begin(kMagic), std::end(kMagic), word) != std::end(kMagic);
}

}  // namespace pastur
