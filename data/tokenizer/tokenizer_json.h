#pragma once
// What a tokenizer.json of Hugging Face says, as far as byte-level BPE goes.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe_merges.h"
#include "data/tokenizer/split_pattern.h"

namespace pastur {

/// Cuts pieces of text into smaller ones: the matches of the pattern, and the text between them.
struct SplitStep {
    bool add_prefix_space = false;        ///< to a piece that does not begin with a space, before it is cut
    std::optional<SplitPattern> pattern;  ///< none: leaves the piece as it is
};

struct TokenizerJson {
    std::vector<std::optional<std::string>> texts;  ///< bytes of each id; none: an id without a token
    std::vector<bool> special;                      ///< ids whose text decode() leaves out
    std::array<int32_t, 256> byte_ids{};            ///< -1: the byte is left out
    std::vector<BpeMerge> merges;                   ///< by rank
    bool ignore_merges = false;                     ///< a pre-token that is a token is not merged
    std::vector<int32_t>
        pieces;        ///< ids of the vocabulary that merging may make: all but words of other characters
    bool nfc = false;  ///< text is normalised, between the added tokens that are not `normalized`
    std::vector<SplitStep> steps;
    std::vector<AddedToken> added;
};

/// Throws (kCorruptData) "<origin>: <field>: ..." for a file that is damaged and for one that says what is not
/// supported: model other than BPE, dropout, normalizers other than NFC, pre-tokenizers other
/// than ByteLevel after Split (Isolated) and Digits, added tokens that match single words, truncation and padding.
/// The post-processor is left out: it adds tokens around a text, and documents have one EOS behind them.
TokenizerJson parse_tokenizer_json(std::string_view json, const std::string& origin);

}  // namespace pastur
