#pragma once
// Text in, token shards out: what `pastur data prepare` does.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus/corpus.h"
#include "data/meta.h"

namespace pastur {

struct PrepareOptions {
    std::vector<std::string> inputs;  ///< files, folders, globs
    CorpusFormat format;
    std::string tokenizer;  ///< "bytes", "train:<vocab>", or what load_tokenizer() takes
    std::filesystem::path out;
    double val_fraction = 0.01;  ///< of the documents, by keyed hash of their text; 0: no validation split
    int64_t val_tokens = 4097;   ///< of the validation split, at least; or a tenth of all tokens
    uint64_t seed = 1;           ///< of the hash
    int64_t skip_bad = 0;        ///< lines of JSON without a usable text that are passed over
    int threads = 0;             ///< 0: as many as the machine has
    int64_t shard_tokens = 100'000'000;  ///< in one shard, at most
    bool force = false;                  ///< replace a folder that prepare() made
};

struct PrepareProgress {
    enum class Stage { kSample, kTrain, kEncode };
    Stage stage;
    int64_t bytes_read = 0;   ///< of the input files, before decompression
    int64_t bytes_total = 0;  ///< 0: unknown
    int64_t documents = 0;
    int64_t tokens = 0;
};

struct PrepareResult {
    DataMeta meta;
    std::string sample;              ///< the front of the first training document, decoded from its tokens
    std::vector<std::string> notes;  ///< what the user should know, a line each
};

/// Writes the folder options.out: complete or absent. Documents keep the order of the input; the result does
/// not depend on the number of threads. Memory does not grow with the corpus. `report` is called now and
/// then, on the calling thread.
///
/// Where the documents hashed to validation have fewer than options.val_tokens tokens, the end of the corpus
/// is held out as well (splitter.h). Throws (kMissingInput, kCorruptData, kIo, kUsage).
PrepareResult prepare(const PrepareOptions& options,
                      const std::function<void(const PrepareProgress&)>& report);

}  // namespace pastur
