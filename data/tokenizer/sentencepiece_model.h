#pragma once
#include <string>
#include <string_view>

namespace pastur {

/// What a serialized SentencePiece model says about the text it expects. The library does not tell, and the
/// header of its protocol buffers is not installed.
struct SentencePieceSpec {
    bool charsmap = false;  ///< normalises characters
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool escape_whitespaces = true;
    bool whitespace_as_suffix = false;
};

/// Reads the fields above. Damaged bytes end the reading early: the library itself judges the model.
SentencePieceSpec read_sentencepiece_spec(std::string_view serialized);

/// The message of a SentencePiece status without the place in the library's source; empty when that is all
/// there is.
std::string sentencepiece_reason(std::string_view message);

}  // namespace pastur
