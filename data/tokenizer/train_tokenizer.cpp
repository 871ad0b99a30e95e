#include "data/tokenizer/train_tokenizer.h"

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <optional>
#include <unordered_map>

#include "data/corpus/utf8.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kLongestSentence = 4096;

/// Feeds the trainer line by line, long lines in parts. Lines end at line breaks and at tabs, the trainer's
/// own separator; both are left to the byte pieces.
class Sentences final : public sentencepiece::SentenceIterator {
  public:
    explicit Sentences(const NextText& next) : next_(next) { Next(); }
    bool done() const override { return done_; }
    const std::string& value() const override { return sentence_; }
    sentencepiece::util::Status status() const override { return {}; }

    void Next() override {
        do {
            while (rest_.empty() && !done_) fetch();
            cut();
        } while (sentence_.empty() && !done_);
    }
    /// What the source threw: the library does not let exceptions through.
    std::exception_ptr error() const { return error_; }

  private:
    void fetch() {
        try {
            done_ = !next_(text_);
        } catch (...) {
            error_ = std::current_exception();
            done_ = true;
        }
        rest_ = done_ ? std::string_view{} : text_;
    }
    void cut() {
        const size_t size = std::min(rest_.find_first_of("\n\r\t"), rest_.size());
        const bool at_break = size < rest_.size();
        sentence_ = utf8_prefix(rest_.substr(0, size), kLongestSentence);
        const bool whole = sentence_.size() == size;
        rest_.remove_prefix(sentence_.size() + (whole && at_break));
    }
    const NextText& next_;
    std::string text_, sentence_;
    std::string_view rest_;
    bool done_ = false;
    std::exception_ptr error_;
};

/// The number behind `words` in the library's message.
std::optional<int64_t> number_after(const std::string& message, const char* words) {
    const size_t at = message.find(words);
    if (at == message.npos) return {};
    int64_t value = 0;
    const char* begin = message.data() + at + std::string_view(words).size();
    const auto [end, error] = std::from_chars(begin, message.data() + message.size(), value);
    return error == std::errc{} ? std::optional(value) : std::nullopt;
}

[[noreturn]] void fail_training(int64_t vocab, const std::string& message) {
    if (const auto most = number_after(message, "a value <= "))
        fail(ExitCode::kUsage,
             "--tokenizer train:{}: this text has pieces for a vocabulary of {}: expected {} or less", vocab,
             *most, *most);
    if (const auto least = number_after(message, " vs "))
        fail(ExitCode::kUsage,
             "--tokenizer train:{}: the characters of this text alone take {} pieces: expected more", vocab,
             *least);
    fail(ExitCode::kUsage, "--tokenizer train:{}: SentencePiece cannot train on this text: {}", vocab,
         sentencepiece_reason(message));
}

}  // namespace

std::string train_tokenizer(int64_t vocab, const NextText& next) {
    const std::unordered_map<std::string, std::string> options = {
        {"model_type", "bpe"},
        {"vocab_size", std::to_string(vocab)},
        {"byte_fallback", "true"},
        {"split_digits", "true"},
        {"allow_whitespace_only_pieces", "true"},
        {"character_coverage", "0.9999"},
        {"normalization_rule_name", "identity"},
        {"remove_extra_whitespaces", "false"},
        {"add_dummy_prefix", "false"},
        {"max_sentence_length", std::to_string(2 * kLongestSentence)},
        {"num_threads", "1"},
        {"minloglevel", "2"},  // the library would print its progress
    };
    Sentences sentences(next);
    if (sentences.error()) std::rethrow_exception(sentences.error());
    if (sentences.done()) fail(ExitCode::kCorruptData, "no text to train a tokenizer on");
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
    if (sentences.error()) std::rethrow_exception(sentences.error());
    if (!status.ok()) fail_training(vocab, status.message());
    return model;
}

}  // namespace pastur
