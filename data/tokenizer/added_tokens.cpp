#include "data/tokenizer/added_tokens.h"

#include <algorithm>

namespace pastur {
namespace {

/// Bytes of the white space character at the front of valid UTF-8; 0: another character.
size_t space_length(std::string_view text) {
    if (text.empty()) return 0;
    const uint8_t c = static_cast<uint8_t>(text[0]);
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r') ? 1 : 0;
    if (text.starts_with("\xc2\x85") || text.starts_with("\xc2\xa0")) return 2;
    if (text.starts_with("\xe1\x9a\x80") || text.starts_with("\xe2\x81\x9f") ||
        text.starts_with("\xe3\x80\x80"))
        return 3;
    if (!text.starts_with("\xe2\x80") || text.size() < 3) return 0;
    const uint8_t last = static_cast<uint8_t>(text[2]);
    return (last >= 0x80 && last <= 0x8a) || last == 0xa8 || last == 0xa9 || last == 0xaf ? 3 : 0;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    std::sort(tokens_.begin(), tokens_.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
    for (const AddedToken& token : tokens_) starts_.set(static_cast<uint8_t>(token.content.front()));
}

const AddedToken* AddedTokenFinder::at_front(std::string_view text) const {
    // The tokens that begin with the first `length` bytes of the text: a range, the shortest one first.
    auto begin = tokens_.begin(), end = tokens_.end();
    const AddedToken* longest = nullptr;
    for (size_t length = 0; length < text.size(); ++length) {
        const uint8_t c = static_cast<uint8_t>(text[length]);
        const auto byte = [&](const AddedToken& token) {
            return static_cast<uint8_t>(token.content[length]);
        };
        begin = std::partition_point(begin, end, [&](const AddedToken& token) { return byte(token) < c; });
        end = std::partition_point(begin, end, [&](const AddedToken& token) { return byte(token) == c; });
        if (begin == end) break;
        if (begin->content.size() == length + 1) {
            longest = &*begin++;
            if (begin == end) break;
        }
    }
    return longest;
}

size_t AddedTokenFinder::space_at_front(std::string_view text) {
    size_t bytes = 0;
    for (size_t n; (n = space_length(text.substr(bytes))) > 0;) bytes += n;
    return bytes;
}

size_t AddedTokenFinder::space_at_back(std::string_view text) {
    size_t bytes = 0;
    while (bytes < text.size()) {
        size_t at = text.size() - bytes - 1;
        while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
        const size_t n = space_length(text.substr(at));
        if (n == 0) break;
        bytes = text.size() - at;
    }
    return bytes;
}

}  // namespace pastur
