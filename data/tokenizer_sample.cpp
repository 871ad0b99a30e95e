#include "data/tokenizer_sample.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "data/corpus/utf8.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

constexpr int64_t kBatchBytes = 256 << 10;
constexpr size_t kPartBytes = 64 << 10;
constexpr double kSampleBytes = 32 << 20;  // more text hardly changes the pieces
// The trainer takes about 150 bytes for each character of distinct words. Words that are that long are text
// without spaces, where nearly every word is new.
constexpr double kWordCharacters = 4 << 20, kLongWordCharacters = 2 << 20;
constexpr size_t kLongWord = 48;  // bytes

double characters_of(std::string_view text) {
    return static_cast<double>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

}  // namespace

TokenizerSample::TokenizerSample(const std::vector<std::string>& files, const CorpusFormat& format,
                                 std::function<bool(std::string_view)> skip,
                                 std::function<void(int64_t)> report)
    : reader_(files, format), parser_(format), skip_(std::move(skip)), report_(std::move(report)) {
    double total = 1;
    for (const std::string& path : files) {
        if (!fs::is_regular_file(path))
            fail(ExitCode::kUsage,
                 "{}: expected a regular file (train:VOCAB reads it twice) or another --tokenizer", path);
        total += static_cast<double>(fs::file_size(path));
        quota_.push_back(total);
    }
    for (double& quota : quota_) quota /= total;
}

bool TokenizerSample::next(std::string& text, bool skip_bad) {
    if (rest_.empty() && !next_document(skip_bad)) return false;
    const std::string_view part = utf8_prefix(rest_, kPartBytes);
    text = part;
    rest_.remove_prefix(part.size());
    spend(part);
    return true;
}

bool TokenizerSample::next_document(bool skip_bad) {
    while (true) {
        for (; at_ < batch_.documents.size(); ++at_) {
            const Document document = parser_.parse(batch_, batch_.documents[at_]);
            if (!document.problem.empty() && !skip_bad) fail(ExitCode::kCorruptData, "{}", document.problem);
            if (document.is_blank() || skip_(document.text)) continue;
            rest_ = document.text;
            ++at_;
            return true;
        }
        if (!next_batch()) return false;
    }
}

/// Counts the bytes of a part and the characters of its new words. Leaves the file when its quota is spent.
void TokenizerSample::spend(std::string_view part) {
    bytes_ += static_cast<double>(part.size());
    while (!part.empty()) {
        const std::string_view word = part.substr(0, part.find(' '));
        if (words_.insert(XXH3_64bits(word.data(), word.size())).second) {
            word_characters_ += characters_of(word);
            if (word.size() > kLongWord) long_word_characters_ += characters_of(word);
        }
        part.remove_prefix(std::min(word.size() + 1, part.size()));
    }
    const double spent = std::max({bytes_ / kSampleBytes, word_characters_ / kWordCharacters,
                                   long_word_characters_ / kLongWordCharacters});
    if (spent < quota_[batch_.file]) return;
    rest_ = {};
    at_ = batch_.documents.size();
    reader_.skip_file();
}

bool TokenizerSample::next_batch() {
    at_ = 0;
    const bool more = reader_.next(batch_, kBatchBytes);
    report_(reader_.consumed());
    return more;
}

}  // namespace pastur
