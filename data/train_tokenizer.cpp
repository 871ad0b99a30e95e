#include "data/train_tokenizer.h"

#include <sentencepiece_trainer.h>

#include <exception>
#include <unordered_map>

#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr size_t kLongestSentence = 4096;

/// Feeds the trainer line by line, long lines in parts. Line breaks and tabs (the trainer's own separator)
/// cut, so both are left to the byte pieces.
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
    /// What the source threw: it must not fly through the library.
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
        size_t size = std::min(rest_.find_first_of("\n\r\t"), rest_.size());
        const bool at_break = size < rest_.size();
        if (size > kLongestSentence) {
            size = kLongestSentence;
            while (size > 0 && (static_cast<uint8_t>(rest_[size]) & 0xc0) == 0x80) --size;
            sentence_ = rest_.substr(0, size);
        } else {
            sentence_ = rest_.substr(0, size);
            size += at_break;
        }
        rest_.remove_prefix(size);
    }
    const NextText& next_;
    std::string text_, sentence_;
    std::string_view rest_;
    bool done_ = false;
    std::exception_ptr error_;
};

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
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sentences, &model);
    if (sentences.error()) std::rethrow_exception(sentences.error());
    if (!status.ok())
        fail(ExitCode::kUsage, "cannot train a tokenizer of {} pieces on this text: {}", vocab,
             status.ToString());
    return model;
}

}  // namespace pastur
