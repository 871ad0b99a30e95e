#pragma once
#include <cstdint>
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

/// The most pieces of a model. The library takes some 300 bytes for each.
inline constexpr int64_t kMaxPieces = 1 << 20;

/// Why the library must not be given this model; empty: it may judge the rest. Checks what the library takes as it is:
/// the number of pieces and fields, scores and texts of pieces, and the tables of the normalisers, whose offsets it
/// follows anywhere.
std::string sentencepiece_problem(std::string_view serialized);

/// The message of a SentencePiece status without the place in the library's source; empty when that is all
/// there is.
std::string sentencepiece_reason(std::string_view message);

}  // namespace pastur
