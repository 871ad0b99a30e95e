#include "data/prepare.h"

#include <xxhash.h>

#include <charconv>
#include <cmath>
#include <optional>

#include "data/output.h"
#include "data/parallel.h"
#include "data/split_writer.h"
#include "data/tokenizer.h"
#include "data/train_tokenizer.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

using Report = std::function<void(const PrepareProgress&)>;
using Stage = PrepareProgress::Stage;

constexpr int64_t kBatchBytes = 256 << 10;
constexpr int64_t kInFlightBytes = 64 << 20;
/// Text a tokenizer is trained on: more hardly changes the pieces, and costs memory and time.
constexpr int64_t kSampleBytes = 32 << 20;

bool only_white_space(std::string_view text) {
    return text.find_first_not_of(" \t\r\n\v\f") == text.npos;
}

/// Which documents are held out: a pure function of text, seed and fraction.
class Holdout {
  public:
    Holdout(double fraction, uint64_t seed)
        : threshold_(fraction >= 1 ? UINT64_MAX : static_cast<uint64_t>(std::ldexp(fraction, 64))),
          seed_(seed) {}
    bool operator()(std::string_view text) const {
        return XXH3_64bits_withSeed(text.data(), text.size(), seed_) < threshold_;
    }

  private:
    uint64_t threshold_, seed_;
};

// --- the tokenizer ---

/// The front of every file, in proportion to its size, without the documents that will be held out.
class Sample {
  public:
    Sample(const std::vector<std::string>& files, const PrepareOptions& options, const Report& report)
        : reader_(files, options.format),
          parser_(options.format),
          holdout_(options.val_fraction, options.seed),
          report_(report) {
        double total = 1;
        for (const std::string& path : files) {
            if (!fs::is_regular_file(path))
                fail(ExitCode::kUsage,
                     "{}: training a tokenizer reads the input twice, which a pipe cannot be", path);
            total += static_cast<double>(fs::file_size(path));
            quota_.push_back(total);
        }
        for (double& quota : quota_) quota *= static_cast<double>(kSampleBytes) / total;
        progress_ = {Stage::kSample, 0, total_bytes(files)};
    }

    bool next(std::string& text) {
        while (true) {
            for (; at_ < batch_.documents.size(); ++at_) {
                const Document document = parser_.parse(batch_, batch_.documents[at_]);
                if (only_white_space(document.text) || holdout_(document.text)) continue;
                text = document.text;
                taken_ += static_cast<double>(text.size());
                ++at_;
                return true;
            }
            if (!next_batch()) return false;
        }
    }

  private:
    bool next_batch() {
        if (file_ < quota_.size() && taken_ >= quota_[file_]) reader_.skip_file();
        at_ = 0;
        const bool more = reader_.next(batch_, kBatchBytes);
        if (reader_.file() < quota_.size()) file_ = reader_.file();
        progress_.bytes_read = reader_.consumed();
        if (!more) progress_.stage = Stage::kTrain;
        report_(progress_);
        return more;
    }
    CorpusReader reader_;
    DocumentParser parser_;
    Holdout holdout_;
    const Report& report_;
    std::vector<double> quota_;  ///< bytes of text taken at most by the end of each file
    double taken_ = 0;
    size_t file_ = 0;
    RawDocuments batch_;
    size_t at_ = 0;
    PrepareProgress progress_{};
};

std::shared_ptr<const Tokenizer> make_tokenizer(const std::vector<std::string>& files,
                                                const PrepareOptions& options, const Report& report) {
    constexpr std::string_view kTrain = "train:";
    const std::string& name = options.tokenizer;
    if (name == "bytes") return byte_tokenizer();
    if (!name.starts_with(kTrain)) {
        if (!fs::exists(name))
            fail(ExitCode::kMissingInput, "no tokenizer {}: expected bytes, train:VOCAB or a tokenizer.model",
                 name);
        return load_tokenizer(name);
    }
    int64_t vocab = 0;
    const char* end = name.data() + name.size();
    const auto [parsed, error] = std::from_chars(name.data() + kTrain.size(), end, vocab);
    if (error != std::errc{} || parsed != end || vocab < 1 || vocab > (1 << 24))
        fail(ExitCode::kUsage, "--tokenizer {}: expected train:VOCAB with VOCAB a number of pieces", name);
    Sample sample(files, options, report);
    return sentencepiece_tokenizer(
        train_tokenizer(vocab, [&](std::string& text) { return sample.next(text); }),
        "the trained tokenizer");
}

// --- the encoding ---

struct RawBatch {
    RawDocuments raw;
    int64_t consumed = 0;
};

struct EncodedBatch {
    struct Document {
        size_t tokens;
        int64_t bytes;
        bool val, repaired;
    };
    std::vector<int32_t> tokens;  ///< of all documents, an EOS after each
    std::vector<Document> documents;
    int64_t consumed = 0;
};

using Pipeline = OrderedPipeline<RawBatch, EncodedBatch>;

Pipeline::Work make_worker(const Tokenizer& tokenizer, const CorpusFormat& format, const Holdout& holdout) {
    auto parser = std::make_shared<DocumentParser>(format);
    const std::shared_ptr<Tokenizer::Encoder> encoder = tokenizer.make_encoder();
    return [=, &tokenizer, &holdout](RawBatch& batch) {
        EncodedBatch result;
        result.consumed = batch.consumed;
        for (const RawDocuments::Span& raw : batch.raw.documents) {
            const Document document = parser->parse(batch.raw, raw);
            if (only_white_space(document.text)) continue;
            const size_t begin = result.tokens.size();
            encoder->encode(document.text, result.tokens);
            result.tokens.push_back(tokenizer.eos_id());
            result.documents.push_back({result.tokens.size() - begin, std::ssize(document.text),
                                        holdout(document.text), document.repaired});
        }
        return result;
    };
}

/// Deals documents to the splits in order. Until each has one, the last document dealt is held back, so that
/// it can still go to the other.
class Splitter {
  public:
    Splitter(SplitWriter& train, SplitWriter& val, bool want_val)
        : writers_{&train, &val}, settled_(!want_val) {}

    void add(bool val, std::span<const int32_t> tokens, int64_t bytes) {
        if (settled_) return writers_[val]->write(tokens, bytes);
        release();
        if (writers_[!val]->documents() > 0) {
            settled_ = true;
            writers_[val]->write(tokens, bytes);
        } else {
            held_ = {val, {tokens.begin(), tokens.end()}, bytes};
        }
    }
    /// Returns what the user should know of; empty when the hash alone decided.
    std::string finish() {
        if (!held_) return {};
        const bool only_one = writers_[held_->val]->documents() == 0;
        const bool moved_to_val = !only_one && !held_->val;
        held_->val = moved_to_val;
        release();
        if (only_one) return "the input is one document: there is no validation split";
        return moved_to_val
                   ? "no document was hashed to the validation split: the last one was moved there"
                   : "every document was hashed to the validation split: the last one was moved to training";
    }

  private:
    struct Held {
        bool val;
        std::vector<int32_t> tokens;
        int64_t bytes;
    };
    void release() {
        if (held_) writers_[held_->val]->write(held_->tokens, held_->bytes);
        held_.reset();
    }
    SplitWriter* writers_[2];
    bool settled_;
    std::optional<Held> held_;
};

struct Encoded {
    int64_t repaired = 0;
    std::string note;
};

Encoded encode_corpus(const std::vector<std::string>& files, const PrepareOptions& options, int threads,
                      const Tokenizer& tokenizer, SplitWriter& train, SplitWriter& val,
                      const Report& report) {
    CorpusReader reader(files, options.format);
    const Holdout holdout(options.val_fraction, options.seed);
    Splitter splitter(train, val, options.val_fraction > 0);
    PrepareProgress progress{Stage::kEncode, 0, total_bytes(files)};
    Encoded encoded;
    const auto produce = [&](RawBatch& batch) -> int64_t {
        if (!reader.next(batch.raw, kBatchBytes)) return 0;
        batch.consumed = reader.consumed();
        return 1 + std::ssize(batch.raw.bytes);
    };
    const auto consume = [&](const EncodedBatch& batch) {
        std::span<const int32_t> tokens(batch.tokens);
        for (const EncodedBatch::Document& document : batch.documents) {
            splitter.add(document.val, tokens.first(document.tokens), document.bytes);
            tokens = tokens.subspan(document.tokens);
            encoded.repaired += document.repaired;
        }
        progress.bytes_read = batch.consumed;
        progress.documents += std::ssize(batch.documents);
        progress.tokens += std::ssize(batch.tokens);
        report(progress);
    };
    Pipeline::run(
        threads, kInFlightBytes, produce, [&] { return make_worker(tokenizer, options.format, holdout); },
        consume);
    encoded.note = splitter.finish();
    return encoded;
}

void write_file(const fs::path& path, std::string_view bytes) {
    FileWriter file(path);
    file.write(bytes);
    file.finish();
}

/// --force must not delete a folder that holds something else.
void check_replaceable(const fs::path& out) {
    if (fs::exists(out) && !fs::exists(out / kMetaFile) && !(fs::is_directory(out) && fs::is_empty(out)))
        fail(ExitCode::kUsage, "{} was not made by `data prepare` (no {}): not replacing it", out.string(),
             kMetaFile);
}

}  // namespace

PrepareResult prepare(const PrepareOptions& options, const Report& report) {
    if (!(options.val_fraction >= 0 && options.val_fraction < 1))
        fail(ExitCode::kUsage, "--val-fraction {}: expected at least 0 and less than 1",
             options.val_fraction);
    if (options.shard_tokens < 1 || options.shard_tokens > INT32_MAX)
        fail(ExitCode::kUsage, "--shard-tokens {}: expected 1 to {}", options.shard_tokens, INT32_MAX);
    if (options.force) check_replaceable(options.out);
    const int threads = options.threads > 0 ? options.threads : hardware_threads();
    const std::vector<std::string> files = corpus_files(options.inputs);
    OutputFolder folder(options.out, options.force);

    const std::shared_ptr<const Tokenizer> tokenizer = make_tokenizer(files, options, report);
    SplitWriter train(folder.staging(), "train", tokenizer->vocab_size(), options.shard_tokens);
    SplitWriter val(folder.staging(), "val", tokenizer->vocab_size(), options.shard_tokens);
    const Encoded encoded = encode_corpus(files, options, threads, *tokenizer, train, val, report);
    if (train.documents() == 0) fail(ExitCode::kCorruptData, "the input holds no document with text in it");

    PrepareResult result;
    DataMeta& meta = result.meta;
    meta = {tokenizer->kind(), tokenizer->vocab_size(), tokenizer->eos_id(),   options.val_fraction,
            options.seed,      encoded.repaired,        train.finish(threads), val.finish(threads)};
    if (!encoded.note.empty()) result.notes.push_back(encoded.note);
    if (encoded.repaired > 0)
        result.notes.push_back(
            fmt::format("documents with bytes that are not UTF-8, each now U+FFFD: {}", encoded.repaired));
    const std::string model = tokenizer->serialized();
    if (!model.empty()) write_file(folder.staging() / kTokenizerFile, model);
    write_file(folder.staging() / kMetaFile, to_json(meta));
    folder.commit();
    return result;
}

}  // namespace pastur
