#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace pastur {

/// Stores the next piece of the sample in `text`; false at the end.
using NextText = std::function<bool(std::string& text)>;

/// Trains a SentencePiece BPE model without normalisation, with byte pieces for what it does not cover and
/// digits one by one, so decode(encode(text)) == text. The same text gives the same model. Returns it
/// serialized. Takes about 150 bytes of memory for each character of distinct words (text between spaces).
///
/// Throws (kUsage) if `vocab` is too small for the characters of the text, or larger than the number of pieces that
/// the text has; (kCorruptData) if there is no text; and any exception of `next`.
std::string train_tokenizer(int64_t vocab, const NextText& next);

}  // namespace pastur
