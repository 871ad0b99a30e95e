#pragma once

namespace pastur {

/// The rules the synthetic stories are made by, in the notation of data/synth/grammar.h.
extern const char* const kStoryGrammar;

}  // namespace pastur
