#include <sentencepiece_processor.h>

#include <algorithm>
#include <bitset>

#include "data/corpus/utf8.h"
#include "data/meta.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "data/tokenizer/token_cache.h"
#include "data/tokenizer/token_windows.h"
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

bool begins_character(char c) {
    return (static_cast<uint8_t>(c) & 0xc0) != 0x80;
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
            for (size_t i = 1; i < piece.size(); ++i) {
                space_before_other_ |= piece[i - 1] == ' ' && piece[i] != ' ';
                space_after_other_ |= piece[i - 1] != ' ' && piece[i] == ' ';
            }
        }
    }
    /// Whether words, which a space begins (or ends, if it is a suffix), are tokens of their own.
    bool separates_words(bool space_is_suffix) const {
        return space_is_suffix ? !space_before_other_ : !space_after_other_;
    }
    /// The first part of `text`, which is not empty.
    std::string_view first_part(std::string_view text) const {
        for (size_t i = 1; i < text.size(); ++i)
            if (begins_character(text[i]) && !joined_[pair(text[i - 1], text[i])]) return text.substr(0, i);
        return text;
    }

  private:
    static size_t pair(char a, char b) {
        return static_cast<uint8_t>(a) * size_t{256} + static_cast<uint8_t>(b);
    }
    void forbid_within(std::string_view piece) {
        for (size_t i = 1; i < piece.size(); ++i) joined_.set(pair(piece[i - 1], piece[i]));
    }
    std::bitset<256 * 256> joined_;
    bool space_before_other_ = false, space_after_other_ = false;  ///< in a piece
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
        cuts_ = std::make_unique<CutTable>(processor_);
        // Concatenated protocol buffer messages merge; these are normalizer_spec { add_dummy_prefix: ... }. In a text that
        // is cut between any characters, the prefix belongs to the text: encode() adds it. In a text that is cut in the
        // place of a space, it is that space, and each part has it.
        const std::string with_prefix("\x1a\x02\x18\x01", 4), without_prefix("\x1a\x02\x18\x00", 4);
        load(part_processor_, serialized_ + (cuttable_ ? without_prefix : with_prefix), origin);
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
    explicit WholeEncoder(const SentencePieceTokenizer& tokenizer)
        : tokenizer_(tokenizer), separable_(tokenizer.cuts_->separates_words(is_suffix())) {}

    void encode(std::string_view text, std::vector<int32_t>& out) override {
        for (bool at_space = false; !text.empty();) {
            const bool at_space_before = at_space;
            const std::string_view part = first_part(text, at_space);
            text.remove_prefix(part.size() + at_space);
            const bool has_space = is_suffix() ? at_space : at_space_before;
            SentencePieceTokenizer::append(has_space ? tokenizer_.part_processor_ : tokenizer_.processor_,
                                           part, scratch_, out);
        }
    }

  private:
    static constexpr size_t kLongestPart = 256 << 10;
    bool is_suffix() const { return tokenizer_.spec_.whitespace_as_suffix; }

    /// Up to the last space between two ASCII letters or digits, which no normalisation removes, if words are tokens of
    /// their own: the tokens are then those of the whole text, and `in_place_of_space` is set. For want of such a space,
    /// up to the last line break, to the last space, or to the last character.
    std::string_view first_part(std::string_view text, bool& in_place_of_space) const {
        in_place_of_space = false;
        if (text.size() <= kLongestPart) return text;
        for (size_t i = kLongestPart - 2; separable_ && i > 0; --i) {
            if (text[i] != ' ' || !is_alphanumeric(text[i - 1]) || !is_alphanumeric(text[i + 1])) continue;
            in_place_of_space = true;
            return text.substr(0, i);
        }
        const size_t newline = text.rfind('\n', kLongestPart - 1), space = text.rfind(' ', kLongestPart - 1);
        if (newline != text.npos) return text.substr(0, newline + 1);
        if (space != text.npos && space > 0) return text.substr(0, space);
        return utf8_prefix(text, kLongestPart);
    }
    static bool is_alphanumeric(char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    }
    const SentencePieceTokenizer& tokenizer_;
    const bool separable_;
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
    /// The library takes some 130 bytes for each byte that it encodes at once, and more for their places.
    static constexpr size_t kWindow = 64 << 10, kLargestWindow = 512 << 10;

    void encode_part(std::string_view part, std::vector<int32_t>& out) {
        if (part.size() > kWindow) return encode_in_windows(part, out);
        cache_.append(part, out, [this](std::string_view text, std::vector<int32_t>& ids) {
            SentencePieceTokenizer::append(tokenizer_.part_processor_, text, scratch_, ids);
        });
    }
    void encode_in_windows(std::string_view part, std::vector<int32_t>& out) {
        const auto encode = [&](size_t begin, size_t end, std::vector<PlacedToken>& tokens) {
            const std::string_view text = utf8_prefix(part.substr(begin), end - begin);
            const auto encoded =
                tokenizer_.part_processor_.EncodeAsImmutableProto({text.data(), text.size()});
            tokens.clear();
            for (size_t i = 0; i < encoded.pieces_size(); ++i) {
                const auto piece = encoded.pieces(static_cast<int>(i));
                tokens.push_back({static_cast<int32_t>(piece.id()), begin + piece.begin()});
            }
        };
        windows_.encode(part.size(), encode, out);
    }

    const SentencePieceTokenizer& tokenizer_;
    TokenCache cache_;
    TokenWindows windows_{kWindow, kLargestWindow};
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
