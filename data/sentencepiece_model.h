#pragma once
#include <string_view>

namespace pastur {

/// What a serialized SentencePiece model says about the text it expects. The library keeps this to itself,
/// and its protocol buffer header is not installed.
struct SentencePieceSpec {
    bool charsmap = false;  ///< normalises characters
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;
    bool whitespace_as_suffix = false;
};

/// Reads the fields above. Damaged bytes end the reading early; the library itself judges the model.
SentencePieceSpec read_sentencepiece_spec(std::string_view serialized);

}  // namespace pastur
