#pragma once
// Tokens that are found in the text before it is cut into pre-tokens, such as <|endoftext|>.
#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

struct AddedToken {
    std::string content;
    int32_t id = 0;
    bool special = false;     ///< has no text of its own: decode() leaves it out
    bool normalized = false;  ///< searched for in normalised text
    bool lstrip = false;      ///< takes the white space before it
    bool rstrip = false;      ///< takes the white space after it
};

/// Finds added tokens. Where several match, the one that begins first counts, and of those the longest. Thread-safe.
class AddedTokenFinder {
  public:
    /// The contents must be distinct and not empty.
    explicit AddedTokenFinder(std::vector<AddedToken> tokens);

    /// A token, or the text between two of them.
    struct Segment {
        std::string_view text = {};  ///< empty for a token
        const AddedToken* token = nullptr;
    };
    /// Calls visit(segment) for each segment of `text`, in order.
    template <typename Visit>
    void split(std::string_view text, const Visit& visit) const {
        size_t done = 0;
        for (size_t at = 0; at < text.size();) {
            const AddedToken* const token =
                starts_[static_cast<uint8_t>(text[at])] ? at_front(text.substr(at)) : nullptr;
            if (!token) {
                ++at;
                continue;
            }
            size_t begin = at;
            at += token->content.size();
            size_t end = at;
            if (token->lstrip) begin = std::max(begin - space_at_back(text.substr(0, begin)), done);
            if (token->rstrip) end += space_at_front(text.substr(end));
            if (done < begin) visit(Segment{text.substr(done, begin - done)});
            visit(Segment{{}, token});
            done = end;
        }
        if (done < text.size()) visit(Segment{text.substr(done)});
    }

  private:
    const AddedToken* at_front(std::string_view text) const;
    static size_t space_at_front(std::string_view text);
    static size_t space_at_back(std::string_view text);

    std::vector<AddedToken> tokens_;  ///< sorted by content
    std::bitset<256> starts_;         ///< first bytes
};

}  // namespace pastur
