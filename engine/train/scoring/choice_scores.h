#pragma once
// Multiple choice by log-likelihood: which continuation of a context a model finds most likely.
#include "data/tokenizer/tokenizer.h"
#include "engine/train/scoring/choice_file.h"
#include "engine/train/scoring/sequence_scorer.h"

namespace pastur {

/// A context and a continuation as tokens.
struct EncodedPair {
    std::vector<int32_t> context, continuation;
};
/// White space at the end of the context moves to the continuation; then the continuation's tokens are those of the whole text
/// without as many as the context alone has. A context without tokens becomes `prefix`.
EncodedPair encode_pair(Tokenizer::Encoder& encoder, std::string_view context, std::string_view continuation,
                        int32_t prefix);

struct ChoiceScores {
    struct Document {
        std::vector<double> loglikelihoods;  ///< of each choice's tokens, in nats
        std::vector<int64_t> tokens;         ///< of each choice
        size_t best;               ///< the choice of the largest log-likelihood; the first of equals
        size_t best_by_character;  ///< of the largest log-likelihood per character
        size_t best_by_byte;       ///< of the largest log-likelihood per byte of UTF-8
    };
    std::vector<Document> documents;  ///< in the order of the file
    /// Share of documents whose answer is `best`, and its standard error: the standard deviation of a sample over the root of
    /// its size; 0 for one document.
    struct Accuracy {
        double mean, stderr_of_mean;
    };
    Accuracy accuracy, accuracy_by_character, accuracy_by_byte;
    int64_t truncated = 0;  ///< contexts that lost tokens at the front
};

/// Scores every choice of `file`, which is named `path` in messages. A context that is too long for the scorer's seq_len
/// loses tokens at its front. prefix: the token that stands for an empty context. Throws (kUsage), naming file and line, for a
/// choice with more than seq_len tokens, (kCorruptData) for one without tokens, and (kNonFinite).
ChoiceScores score_choices(SequenceScorer& scorer, const ChoiceFile& file, const std::string& path,
                           const Tokenizer& tokenizer, int32_t prefix, int64_t seq_len);

}  // namespace pastur
