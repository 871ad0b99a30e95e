#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pastur {

struct PlacedToken {
    int32_t id;
    size_t begin;  ///< of its bytes in the text
};

/// Encodes long text in overlapping windows, so memory does not grow with it, and appends the ids.
///
/// A sequence of tokens is the byte pair encoding of its bytes if and only if each two neighbours are the encoding of
/// theirs: the first merge across a border between tokens would be the next merge of these two alone as well. So two
/// windows that have one token in common, at the same place, are the encoding of both when joined there.
class TokenWindows {
  public:
    /// `window`: bytes at first. Windows that have no token in common are doubled up to `most`, then cut at a token.
    TokenWindows(size_t window, size_t most) : window_(window), most_(most) {}

    /// encode(begin, end, tokens) stores the tokens of these bytes.
    template <typename Encode>
    void encode(size_t size, const Encode& encode, std::vector<int32_t>& out) {
        size_t window = window_, end = std::min(window, size);
        encode(0, end, tokens_);
        while (end < size) {
            const size_t begin = tokens_.front().begin, border = overlap(begin, end);
            const size_t from = tokens_[border].begin, next_end = std::min(from + window, size);
            size_t i = border, k = 0;
            bool joined = false;
            if (from > begin) {
                encode(from, next_end, next_);
                joined = find_common(i, k);
                if (!joined && window >= most_) {
                    i = border;
                    k = 0;
                    joined = true;
                }
            }
            if (joined) {
                append(i, out);
                next_.erase(next_.begin(), next_.begin() + static_cast<int64_t>(k));
                tokens_.swap(next_);
                end = next_end;
            } else {
                window *= 2;
                end = std::min(begin + window, size);
                encode(begin, end, tokens_);
            }
        }
        append(tokens_.size(), out);
    }

  private:
    /// The token with which the next window begins: it overlaps this one by about an eighth. Several tokens may begin at
    /// one place, where they share a character.
    size_t overlap(size_t begin, size_t end) const {
        size_t i = tokens_.size() - 1;
        while (i > 0 &&
               (tokens_[i].begin + (end - begin) / 8 > end || tokens_[i - 1].begin == tokens_[i].begin))
            --i;
        return i;
    }
    /// Advances to the first token in common of tokens_[i..] and next_[k..]. A token ends where the next one begins.
    bool find_common(size_t& i, size_t& k) const {
        while (i < tokens_.size() && k < next_.size()) {
            if (tokens_[i].begin == next_[k].begin && tokens_[i].id == next_[k].id) return true;
            tokens_[i].begin < next_[k].begin ? ++i : ++k;
        }
        return false;
    }
    void append(size_t count, std::vector<int32_t>& out) const {
        for (size_t i = 0; i < count; ++i) out.push_back(tokens_[i].id);
    }

    size_t window_, most_;
    std::vector<PlacedToken> tokens_, next_;
};

}  // namespace pastur
