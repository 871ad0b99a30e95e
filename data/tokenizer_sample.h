#pragma once
// The part of a corpus that a tokenizer is trained on.
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "data/corpus/corpus.h"

namespace pastur {

/// Text from the front of every file, in proportion to the files' sizes, in parts. It ends at 32 MiB of text
/// or earlier, at 4 Mi characters of distinct words (2 Mi of words longer than 48 bytes), because training
/// takes memory for those.
class TokenizerSample {
  public:
    /// Documents for which `skip` is true are passed over. `report` is given the bytes read so far.
    TokenizerSample(const std::vector<std::string>& files, const CorpusFormat& format,
                    std::function<bool(std::string_view)> skip, std::function<void(int64_t)> report);

    /// Stores the next part of a document in `text`; false at the end. Throws as CorpusReader does, and
    /// (kCorruptData) for a line without text unless `skip_bad`.
    bool next(std::string& text, bool skip_bad);

  private:
    bool next_document(bool skip_bad);
    bool next_batch();
    void spend(std::string_view part);

    CorpusReader reader_;
    DocumentParser parser_;
    std::function<bool(std::string_view)> skip_;
    std::function<void(int64_t)> report_;
    std::vector<double> quota_;  ///< share of the sample that may be spent by the end of each file
    double bytes_ = 0;
    double word_characters_ = 0, long_word_characters_ = 0;  ///< of distinct words
    std::unordered_set<uint64_t> words_;                     ///< hashes
    RawDocuments batch_;
    size_t at_ = 0;
    std::string_view rest_;  ///< of the current document
};

}  // namespace pastur
