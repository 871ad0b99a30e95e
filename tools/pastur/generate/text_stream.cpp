#include "tools/pastur/generate/text_stream.h"

#include <algorithm>

#include "data/corpus/utf8.h"

namespace pastur {
namespace {

/// Tokens of a prompt that may change how the next one reads.
constexpr size_t kContext = 8;

/// Whether the text ends within a character. Tokenizers that decode to valid UTF-8 write U+FFFD for bytes that are
/// no whole character (yet).
bool ends_within_character(std::string_view text) {
    constexpr std::string_view kReplacement = "\xef\xbf\xbd";
    if (text.size() >= 3 && text.substr(text.size() - 3) == kReplacement) return true;
    for (size_t back = 1; back <= std::min<size_t>(text.size(), 3); ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xc0) == 0x80) continue;  // not the first byte of a character
        const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
        return length > back && byte < 0xf5;
    }
    return false;
}

}  // namespace

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<int32_t> prompt,
                       std::vector<std::string> stops)
    : tokenizer_(std::move(tokenizer)),
      ids_(prompt.end() - static_cast<std::ptrdiff_t>(std::min(prompt.size(), kContext)), prompt.end()),
      stops_(std::move(stops)),
      read_(ids_.size()) {}

bool TextStream::push(int32_t token) {
    if (stopped_) return false;
    ids_.push_back(token);
    const std::span<const int32_t> ids = ids_;
    const std::string whole = tokenizer_->decode(ids.subspan(context_));
    if (ends_within_character(whole)) return true;
    const std::string known = tokenizer_->decode(ids.subspan(context_, read_ - context_));
    append(whole.substr(std::min(known.size(), whole.size())));
    context_ = read_;
    read_ = ids_.size();
    return !stopped_;
}

void TextStream::finish() {
    finished_ = true;
    if (stopped_ || read_ == ids_.size()) return;
    const std::span<const int32_t> ids = ids_;
    const std::string whole = tokenizer_->decode(ids.subspan(context_));
    const std::string known = tokenizer_->decode(ids.subspan(context_, read_ - context_));
    append(whole.substr(std::min(known.size(), whole.size())));
    read_ = ids_.size();
}

void TextStream::append(const std::string& piece) {
    size_t longest = 0;
    for (const std::string& stop : stops_) longest = std::max(longest, stop.size());
    const size_t from = text_.size() - std::min(text_.size(), longest);
    text_ += repair_utf8(piece);
    size_t end = std::string::npos;
    for (const std::string& stop : stops_) end = std::min(end, text_.find(stop, from));
    if (end == std::string::npos) return;
    text_.resize(end);
    stopped_ = true;
}

size_t TextStream::undecided() const {
    if (stopped_ || finished_) return 0;
    size_t bytes = 0;
    for (const std::string& stop : stops_)
        for (size_t i = std::min(stop.size() - 1, text_.size()); i > bytes; --i)
            if (text_.compare(text_.size() - i, i, stop, 0, i) == 0) bytes = i;
    return bytes;
}

std::string TextStream::take() {
    const size_t end = std::max(taken_, text_.size() - undecided());
    const std::string text = text_.substr(taken_, end - taken_);
    taken_ = end;
    return text;
}

}  // namespace pastur
