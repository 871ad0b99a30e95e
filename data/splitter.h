#pragma once
// Which tokens are held out for validation.
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/split_writer.h"

namespace pastur {

/// Which documents are held out: a pure function of text, seed and fraction.
class Holdout {
  public:
    Holdout(double fraction, uint64_t seed);
    bool operator()(std::string_view text) const;

  private:
    uint64_t threshold_, seed_;
};

/// Deals documents to the two splits, in order. Where the held-out documents have too few tokens at the end,
/// the tail of the training tokens is held out as well, cut inside a document if need be.
class Splitter {
  public:
    /// The validation split gets at least `val_tokens` tokens, or a tenth of all where that is less; 0: what
    /// it is dealt.
    Splitter(SplitWriter& train, SplitWriter& val, int64_t val_tokens);

    /// Tokens of one document, EOS included, of `bytes` bytes of text.
    void add(bool val, std::span<const int32_t> tokens, int64_t bytes);

    struct Outcome {
        int64_t tail_tokens = 0;  ///< held out beyond the documents dealt to validation
        bool last_to_train =
            false;  ///< every document was dealt to validation: the last one went to training
    };
    /// Deals what was held back.
    Outcome finish();

  private:
    struct Held {
        std::vector<int32_t> tokens;
        int64_t bytes;
        int64_t size() const { return std::ssize(tokens); }
    };
    void hold(std::span<const int32_t> tokens, int64_t bytes);
    int64_t hold_out_tail(int64_t wanted);

    SplitWriter &train_, &val_;
    const int64_t val_tokens_;
    bool any_train_ = false;
    std::optional<Held> last_val_;  ///< the last validation document, kept until there is a training document
    std::deque<Held> tail_;         ///< training documents at the end: val_tokens_ tokens or a little more
    int64_t held_tokens_ = 0;       ///< in tail_
};

}  // namespace pastur
