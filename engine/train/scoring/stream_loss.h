#pragma once
// Cross-entropy of a stream of tokens in windows.
#include "engine/train/scoring/scored_stream.h"
#include "engine/train/scoring/sequence_scorer.h"

namespace pastur {

struct StreamLoss {
    double nats = 0;       ///< sum over all targets
    int64_t tokens = 0;    ///< targets
    double text_nats = 0;  ///< sum over the targets that are not the separator
    std::optional<TextSize> text = {};

    double loss() const { return nats / static_cast<double>(tokens); }
    double perplexity() const;
    /// Of the text, without separators. Empty if the text is not known or has none.
    std::optional<double> bits_per_byte() const;
    std::optional<double> bits_per_word() const;
};

/// Every target of the stream counts once. Window k has the inputs from k * stride to k * stride + seq_len, as far as the
/// stream goes, and scores the targets that the windows before it have not scored: with stride = seq_len, windows do not
/// overlap; with a smaller one, a target that is not in the first window has at least seq_len - stride tokens of context.
/// 1 <= stride <= seq_len. Sums are in the order of the stream. Throws as the stream does, and (kNonFinite) naming the
/// target if a loss is not finite.
StreamLoss score_stream(SequenceScorer& scorer, ScoredStream& stream, int64_t seq_len, int64_t stride);

}  // namespace pastur
