#pragma once
// The text of a continuation, as its tokens come.
#include <memory>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace pastur {

class TextStream {
  public:
    /// stops: texts that end the continuation and are not part of it; not empty ones. prompt: ids before the
    /// continuation, which may change how its first token reads ("▁a" is "a" at the beginning of a text).
    TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<int32_t> prompt,
               std::vector<std::string> stops);

    /// Appends a token. Returns whether the text goes on, which it does not after a stop text.
    bool push(int32_t token);
    /// No more tokens come: what is left of a character becomes U+FFFD.
    void finish();
    /// What is certain of the text and was not taken yet: whole characters, and nothing that may turn out to be the
    /// beginning of a stop text.
    std::string take();
    /// The text so far, valid UTF-8.
    const std::string& text() const { return text_; }

  private:
    void append(const std::string& piece);
    /// Bytes at the end of the text that a stop text begins with.
    size_t undecided() const;

    std::shared_ptr<const Tokenizer> tokenizer_;
    std::vector<int32_t> ids_;  ///< the end of the prompt, then the tokens
    std::vector<std::string> stops_;
    /// ids_ from `context_` on are decoded together; the text of those before `read_` is in text_.
    size_t context_ = 0, read_;
    std::string text_;
    size_t taken_ = 0;
    bool stopped_ = false, finished_ = false;
};

}  // namespace pastur
