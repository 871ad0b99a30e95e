#include "data/splitter.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

namespace pastur {

Holdout::Holdout(double fraction, uint64_t seed)
    : threshold_(fraction >= 1 ? UINT64_MAX : static_cast<uint64_t>(std::ldexp(fraction, 64))), seed_(seed) {}

bool Holdout::operator()(std::string_view text) const {
    return XXH3_64bits_withSeed(text.data(), text.size(), seed_) < threshold_;
}

Splitter::Splitter(SplitWriter& train, SplitWriter& val, int64_t val_tokens)
    : train_(train), val_(val), val_tokens_(val_tokens) {}

void Splitter::add(bool val, std::span<const int32_t> tokens, int64_t bytes) {
    if (val && !any_train_) {
        if (last_val_) val_.write(last_val_->tokens, last_val_->bytes);
        last_val_ = {{tokens.begin(), tokens.end()}, bytes};
        return;
    }
    if (last_val_) val_.write(last_val_->tokens, last_val_->bytes);
    last_val_.reset();
    if (val) return val_.write(tokens, bytes);
    any_train_ = true;
    hold(tokens, bytes);
}

/// Puts a training document at the end of the tail and writes those at its front that it can spare.
void Splitter::hold(std::span<const int32_t> tokens, int64_t bytes) {
    const int64_t needed = std::max<int64_t>(0, val_tokens_ - val_.tokens());
    if (tail_.empty() && needed == 0) return train_.write(tokens, bytes);
    tail_.push_back({{tokens.begin(), tokens.end()}, bytes});
    held_tokens_ += tail_.back().size();
    while (!tail_.empty() && held_tokens_ - tail_.front().size() >= needed) {
        train_.write(tail_.front().tokens, tail_.front().bytes);
        held_tokens_ -= tail_.front().size();
        tail_.pop_front();
    }
}

/// Writes the tail: its last `wanted` tokens to validation, the rest to training. Documents are held out
/// whole as long as that takes at most twice the wanted tokens. Returns the number of tokens held out.
int64_t Splitter::hold_out_tail(int64_t wanted) {
    size_t first = tail_.size();  // index of the first document held out whole
    int64_t whole = 0;
    while (first > 0 && whole < wanted && whole + tail_[first - 1].size() <= 2 * wanted)
        whole += tail_[--first].size();
    const int64_t cut = std::max<int64_t>(0, wanted - whole);  // tokens held out of the document before it
    for (size_t i = 0; i < tail_.size(); ++i) {
        const Held& document = tail_[i];
        if (i >= first) {
            val_.write(document.tokens, document.bytes);
        } else if (i + 1 == first && cut > 0) {
            const int64_t bytes = document.bytes * cut / document.size();  // in proportion
            const std::span<const int32_t> tokens(document.tokens);
            train_.write(tokens.first(tokens.size() - static_cast<size_t>(cut)), document.bytes - bytes);
            val_.write(tokens.last(static_cast<size_t>(cut)), bytes);
        } else {
            train_.write(document.tokens, document.bytes);
        }
    }
    return whole + cut;
}

Splitter::Outcome Splitter::finish() {
    Outcome outcome;
    if (last_val_) {
        outcome.last_to_train = true;
        tail_.push_back(std::move(*last_val_));
        held_tokens_ += tail_.back().size();
    }
    const int64_t total = train_.tokens() + val_.tokens() + held_tokens_;
    const int64_t wanted = std::min(val_tokens_, total / 10) - val_.tokens();
    outcome.tail_tokens = hold_out_tail(std::max<int64_t>(0, wanted));
    return outcome;
}

}  // namespace pastur
