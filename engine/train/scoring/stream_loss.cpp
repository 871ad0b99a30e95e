#include "engine/train/scoring/stream_loss.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/error.h"

namespace pastur {
namespace {

/// Cuts a stream into windows, in its order.
class Windows {
  public:
    Windows(ScoredStream& stream, int64_t seq_len, int64_t stride)
        : stream_(stream), seq_len_(seq_len), stride_(stride) {}

    /// The next window; empty at the end of the stream.
    std::optional<ScoredSequence> next() {
        while (!at_end_ && available() < seq_len_ + 1) read_more();
        const int64_t inputs = std::min(seq_len_, available() - 1);
        const int64_t scored = inputs - overlap_;
        if (scored <= 0) return std::nullopt;
        const auto first = tokens_.begin() + begin_;
        ScoredSequence window{{first, first + inputs + 1}, scored};
        const int64_t step = std::min(stride_, inputs);
        begin_ += step;
        overlap_ = inputs - step;
        return window;
    }

  private:
    int64_t available() const { return std::ssize(tokens_) - begin_; }
    void read_more() {
        tokens_.erase(tokens_.begin(), tokens_.begin() + begin_);
        begin_ = 0;
        at_end_ = !stream_.next(tokens_);
    }
    ScoredStream& stream_;
    int64_t seq_len_, stride_;
    std::vector<int32_t> tokens_;
    int64_t begin_ = 0;    ///< the next window's first input
    int64_t overlap_ = 0;  ///< targets of the next window that are scored already
    bool at_end_ = false;
};

std::optional<double> bits_per(double nats, int64_t count) {
    if (count == 0) return std::nullopt;
    return nats / std::numbers::ln2 / static_cast<double>(count);
}

}  // namespace

double StreamLoss::perplexity() const {
    return std::exp(loss());
}
std::optional<double> StreamLoss::bits_per_byte() const {
    return text ? bits_per(text_nats, text->bytes) : std::nullopt;
}
std::optional<double> StreamLoss::bits_per_word() const {
    return text ? bits_per(text_nats, text->words) : std::nullopt;
}

StreamLoss score_stream(SequenceScorer& scorer, ScoredStream& stream, int64_t seq_len, int64_t stride) {
    PASTUR_CHECK(stride >= 1 && stride <= seq_len, "stride {} of windows of {}", stride, seq_len);
    // A few passes at a time, so that shorter windows at the end of the stream do not change the others' batches.
    const auto group = static_cast<size_t>(4 * scorer.batch_of(seq_len));
    Windows windows(stream, seq_len, stride);
    StreamLoss result;
    std::vector<ScoredSequence> sequences;
    const SequenceScorer::Visit add = [&](size_t i, std::span<const float> losses) {
        const ScoredSequence& sequence = sequences[i];
        const int32_t* const targets = sequence.tokens.data() + sequence.tokens.size() - losses.size();
        for (size_t t = 0; t < losses.size(); ++t) {
            if (!std::isfinite(losses[t]))
                fail(ExitCode::kNonFinite, "the loss of a target, token {}, is not finite", targets[t]);
            result.nats += losses[t];
            if (targets[t] != stream.separator()) result.text_nats += losses[t];
        }
        result.tokens += sequence.scored;
    };
    bool more = true;
    while (more) {
        sequences.clear();
        while (more && sequences.size() < group) {
            std::optional<ScoredSequence> window = windows.next();
            more = window.has_value();
            if (more) sequences.push_back(std::move(*window));
        }
        scorer.score(sequences, add);
    }
    result.text = stream.text();
    return result;
}

}  // namespace pastur
