#include <sentencepiece_processor.h>

#include <algorithm>
#include <bitset>

#include "data/corpus/utf8.h"
#include "data/meta.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "data/tokenizer/token_cache.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using sentencepiece::SentencePieceProcessor;

void load(SentencePieceProcessor& processor, const std::string& serialized, const std::string& origin) {
    std::string reason = sentencepiece_problem(serialized);
    if (reason.empty()) {
        const auto status = processor.LoadFromSerializedProto(serialized);
        if (status.ok()) return;
        reason = sentencepiece_reason(status.message());
    }
    fail(ExitCode::kCorruptData, "{}: not a SentencePiece model{}{}", origin, reason.empty() ? "" : ": ",
         reason);
}

/// Where text may be cut without changing its tokens: between two bytes that are not adjacent in any piece.
/// Both BPE merges and Viterbi paths consist of pieces, so none reaches across such a place.
class CutTable {
  public:
    explicit CutTable(const SentencePieceProcessor& processor) {
        constexpr std::string_view kSpace = "\xe2\x96\x81";  // how pieces write a space
        for (int id = 0; id < processor.GetPieceSize(); ++id) {
            if (processor.IsByte(id) || processor.IsControl(id) || processor.IsUnknown(id)) continue;
            std::string piece = processor.IdToPiece(id);
            forbid_within(piece);
            for (size_t at; (at = piece.find(kSpace)) != piece.npos;) {
                piece[at] = ' ';
                piece.erase(at + 1, kSpace.size() - 1);
            }
            forbid_within(piece);
        }
    }
    /// The first part of `text`, which is not empty; at most kLongestPart, cut between any two characters.
    std::string_view first_part(std::string_view text) const {
        for (size_t i = 1; i < std::min(text.size(), kLongestPart); ++i) {
            const bool inside_character = (static_cast<uint8_t>(text[i]) & 0xc0) == 0x80;
            if (!inside_character && !joined_[pair(text[i - 1], text[i])]) return text.substr(0, i);
        }
        return utf8_prefix(text, kLongestPart);
    }

  private:
    /// The library takes some 130 bytes for each byte that it encodes at once.
    static constexpr size_t kLongestPart = 64 << 10;
    static size_t pair(char a, char b) {
        return static_cast<uint8_t>(a) * size_t{256} + static_cast<uint8_t>(b);
    }
    void forbid_within(std::string_view piece) {
        for (size_t i = 1; i < piece.size(); ++i) joined_.set(pair(piece[i - 1], piece[i]));
    }
    std::bitset<256 * 256> joined_;
};

class SentencePieceTokenizer final : public Tokenizer {
  public:
    SentencePieceTokenizer(std::string serialized, const std::string& origin)
        : serialized_(std::move(serialized)), spec_(read_sentencepiece_spec(serialized_)) {
        load(processor_, serialized_, origin);
        if (processor_.eos_id() < 0)
            fail(ExitCode::kCorruptData, "{} has no end-of-sentence piece, which separates documents",
                 origin);
        // Without byte fallback a run of unknown characters becomes one token, across any cut.
        const bool byte_fallback = processor_.IsByte(processor_.PieceToId("<0x00>"));
        cuttable_ = byte_fallback && !spec_.charsmap && !spec_.remove_extra_whitespaces &&
                    spec_.escape_whitespaces && !spec_.whitespace_as_suffix;
        if (!cuttable_) return;
        cuts_ = std::make_unique<CutTable>(processor_);
        // Concatenated protocol buffer messages merge; this one is normalizer_spec { add_dummy_prefix: false
        // }. The prefix belongs to the text, not to each part: encode() adds it.
        load(part_processor_, serialized_ + std::string("\x1a\x02\x18\x00", 4), origin);
    }

    std::string kind() const override { return "sentencepiece"; }
    int64_t vocab_size() const override { return processor_.GetPieceSize(); }
    int32_t eos_id() const override { return processor_.eos_id(); }
    std::vector<TokenizerFile> files() const override { return {{kTokenizerFile, serialized_}}; }

    std::string decode(std::span<const int32_t> ids) const override {
        for (const int32_t id : ids)
            if (id < 0 || id >= vocab_size())
                fail(ExitCode::kCorruptData,
                     "token id {} is not below {}, the size of the tokenizer's vocabulary", id, vocab_size());
        std::string text;
        const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
        if (!status.ok())
            fail(ExitCode::kOther, "SentencePiece cannot decode: {}", sentencepiece_reason(status.message()));
        return text;
    }
    std::unique_ptr<Encoder> make_encoder() const override;

  private:
    friend class WholeEncoder;
    friend class CachedEncoder;
    static void append(const SentencePieceProcessor& processor, std::string_view text,
                       std::vector<int>& scratch, std::vector<int32_t>& out) {
        const auto status = processor.Encode({text.data(), text.size()}, &scratch);
        if (!status.ok())
            fail(ExitCode::kOther, "SentencePiece cannot encode: {}", sentencepiece_reason(status.message()));
        out.insert(out.end(), scratch.begin(), scratch.end());
    }
    std::string serialized_;
    SentencePieceSpec spec_;
    SentencePieceProcessor processor_, part_processor_;
    bool cuttable_ = false;
    std::unique_ptr<CutTable> cuts_;
};

/// For models that normalise across the whole text: the library's own way. Long text is cut, because the
/// library takes some 130 bytes for each byte that it encodes at once.
class WholeEncoder final : public Tokenizer::Encoder {
  public:
    explicit WholeEncoder(const SentencePieceTokenizer& tokenizer) : tokenizer_(tokenizer) {}
    void encode(std::string_view text, std::vector<int32_t>& out) override {
        while (!text.empty()) {
            const std::string_view part = first_part(text);
            SentencePieceTokenizer::append(tokenizer_.processor_, part, scratch_, out);
            text.remove_prefix(part.size());
        }
    }

  private:
    static constexpr size_t kLongestPart = 256 << 10;
    /// Up to the last line break, for want of one to the last space, for want of both to the last character.
    static std::string_view first_part(std::string_view text) {
        if (text.size() <= kLongestPart) return text;
        const size_t newline = text.rfind('\n', kLongestPart - 1), space = text.rfind(' ', kLongestPart - 1);
        if (newline != text.npos) return text.substr(0, newline + 1);
        if (space != text.npos && space > 0) return text.substr(0, space);
        return utf8_prefix(text, kLongestPart);
    }
    const SentencePieceTokenizer& tokenizer_;
    std::vector<int> scratch_;
};

/// Cuts the text into parts, mostly words, and remembers their tokens.
class CachedEncoder final : public Tokenizer::Encoder {
  public:
    explicit CachedEncoder(const SentencePieceTokenizer& tokenizer) : tokenizer_(tokenizer) {}

    void encode(std::string_view text, std::vector<int32_t>& out) override {
        if (text.empty()) return;
        if (tokenizer_.spec_.add_dummy_prefix) {
            prefixed_.assign(1, ' ').append(text);
            text = prefixed_;
        }
        while (!text.empty()) {
            const std::string_view part = tokenizer_.cuts_->first_part(text);
            encode_part(part, out);
            text.remove_prefix(part.size());
        }
    }

  private:
    void encode_part(std::string_view part, std::vector<int32_t>& out) {
        cache_.append(part, out, [this](std::string_view text, std::vector<int32_t>& ids) {
            SentencePieceTokenizer::append(tokenizer_.part_processor_, text, scratch_, ids);
        });
    }

    const SentencePieceTokenizer& tokenizer_;
    TokenCache cache_;
    std::vector<int> scratch_;
    std::string prefixed_;
};

std::unique_ptr<Tokenizer::Encoder> SentencePieceTokenizer::make_encoder() const {
    if (cuttable_) return std::make_unique<CachedEncoder>(*this);
    return std::make_unique<WholeEncoder>(*this);
}

}  // namespace

std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string serialized, const std::string& origin) {
    return std::make_shared<SentencePieceTokenizer>(std::move(serialized), origin);
}

}  // namespace pastur
