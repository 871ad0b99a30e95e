#pragma once

namespace pastur {

/// The rules of the synthetic stories, in the notation of data/synth/grammar.h.
extern const char* const kStoryGrammar;

}  // namespace pastur
