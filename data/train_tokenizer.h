#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace pastur {

/// Hands the next document of the sample to a tokenizer's training; false at the end.
using NextText = std::function<bool(std::string& text)>;

/// Trains a SentencePiece BPE model: no normalisation, bytes for what it does not cover, digits one by one,
/// so that decode(encode(text)) == text. The same text gives the same model. Returns it serialized. Throws
/// (kUsage) when the text does not fit `vocab` (too small for its characters, or larger than it has pieces
/// for), and what `next` throws.
std::string train_tokenizer(int64_t vocab, const NextText& next);

}  // namespace pastur
