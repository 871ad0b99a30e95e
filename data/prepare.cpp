#include "data/prepare.h"

#include <charconv>
#include <optional>

#include "data/corpus/corpus_files.h"
#include "data/corpus/utf8.h"
#include "data/files.h"
#include "data/output.h"
#include "data/parallel.h"
#include "data/split_writer.h"
#include "data/splitter.h"
#include "data/tokenizer/sentencepiece_model.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train_tokenizer.h"
#include "data/tokenizer_sample.h"
#include "kernels/base/error.h"

namespace fs = std::filesystem;

namespace pastur {
namespace {

using Report = std::function<void(const PrepareProgress&)>;
using Stage = PrepareProgress::Stage;

constexpr int64_t kBatchBytes = 256 << 10;
constexpr int64_t kInFlightBytes = 64 << 20;

// --- the tokenizer ---

std::string train(const std::vector<std::string>& files, int64_t vocab, const PrepareOptions& options,
                  const Report& report) {
    PrepareProgress progress{Stage::kSample, 0, total_bytes(files)};
    const auto read = [&](int64_t bytes) {
        progress.bytes_read = bytes;
        report(progress);
    };
    const Holdout holdout(options.val_fraction, options.seed);
    const bool skip_bad = options.skip_bad > 0;
    auto sample = std::make_unique<TokenizerSample>(files, options.format, holdout, read);
    std::string first;
    if (!sample->next(first, skip_bad)) {
        // Every document is held out. The splitter will find it a place in the training split.
        const auto nothing = [](std::string_view) { return false; };
        sample = std::make_unique<TokenizerSample>(files, options.format, nothing, read);
        if (!sample->next(first, skip_bad))
            fail(ExitCode::kCorruptData, "the input holds no document with text in it");
    }
    bool any = false;
    return train_tokenizer(vocab, [&](std::string& text) {
        if (!any) {
            any = true;
            text = std::move(first);
            return true;
        }
        if (sample->next(text, skip_bad)) return true;
        progress.stage = Stage::kTrain;
        report(progress);
        return false;
    });
}

std::shared_ptr<const Tokenizer> make_tokenizer(const std::vector<std::string>& files,
                                                const PrepareOptions& options, const Report& report) {
    constexpr std::string_view kTrain = "train:";
    const std::string& name = options.tokenizer;
    if (name == "bytes") return byte_tokenizer();
    if (!name.starts_with(kTrain)) {
        if (!path_exists(name))
            fail(ExitCode::kMissingInput,
                 "no tokenizer {}: expected bytes, train:VOCAB, a tokenizer.model or a tokenizer.json", name);
        return load_tokenizer(name);
    }
    int64_t vocab = 0;
    const char* end = name.data() + name.size();
    const auto [parsed, error] = std::from_chars(name.data() + kTrain.size(), end, vocab);
    if (error != std::errc{} || parsed != end || vocab < 1 || vocab > kMaxPieces)
        fail(ExitCode::kUsage, "--tokenizer {}: expected train:VOCAB with VOCAB a number of pieces", name);
    return sentencepiece_tokenizer(train(files, vocab, options, report), "the trained tokenizer");
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
    std::vector<std::string> problems;  ///< of lines without text
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
            if (!document.problem.empty()) result.problems.push_back(document.problem);
            if (document.is_blank()) continue;
            const size_t begin = result.tokens.size();
            encoder->encode(document.text, result.tokens);
            result.tokens.push_back(tokenizer.eos_id());
            result.documents.push_back({result.tokens.size() - begin, std::ssize(document.text),
                                        holdout(document.text), document.repaired});
        }
        return result;
    };
}

struct Encoded {
    int64_t repaired = 0, skipped = 0;
    std::string first_problem;
    Splitter::Outcome split;
};

/// Counts lines without text; the first one above the limit ends the job.
void skip_bad_lines(Encoded& encoded, const std::vector<std::string>& problems, int64_t limit) {
    for (const std::string& problem : problems) {
        if (encoded.skipped == limit)
            fail(ExitCode::kCorruptData, "{}{}", problem,
                 limit == 0 ? " (--skip-bad N passes over N such lines)"
                            : fmt::format("; more than --skip-bad {} such lines, the first: {}", limit,
                                          encoded.first_problem));
        if (encoded.skipped++ == 0) encoded.first_problem = problem;
    }
}

Encoded encode_corpus(const std::vector<std::string>& files, const PrepareOptions& options, int threads,
                      const Tokenizer& tokenizer, SplitWriter& train, SplitWriter& val,
                      const Report& report) {
    CorpusReader reader(files, options.format);
    const Holdout holdout(options.val_fraction, options.seed);
    Splitter splitter(train, val, options.val_fraction > 0 ? options.val_tokens : 0);
    PrepareProgress progress{Stage::kEncode, 0, total_bytes(files)};
    Encoded encoded;
    const auto produce = [&](RawBatch& batch) -> int64_t {
        if (!reader.next(batch.raw, kBatchBytes)) return 0;
        batch.consumed = reader.consumed();
        return 1 + std::ssize(batch.raw.bytes);
    };
    const auto consume = [&](const EncodedBatch& batch) {
        skip_bad_lines(encoded, batch.problems, options.skip_bad);
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
    encoded.split = splitter.finish();
    return encoded;
}

// --- the folder ---

/// Names of the files that prepare() writes.
bool is_own_name(const std::string& name) {
    const auto is_shard = [&](std::string_view prefix) {
        return name.size() == prefix.size() + 10 && name.starts_with(prefix) && name.ends_with(".bin") &&
               name.find_first_not_of("0123456789", prefix.size()) == name.size() - 4;
    };
    return name == kMetaFile || name == kTokenizerFile || name == kTokenizerJsonFile ||
           name == kTokenizerConfigFile || is_shard("train_") || is_shard("val_");
}

/// The meta.json that prepare() wrote; none: something else wrote the folder.
std::optional<DataMeta> own_meta(const fs::path& folder) {
    try {
        return read_meta(folder);
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// Throws (kUsage) unless --force may replace the folder: prepare() made it, and its shards are those that its
/// meta.json lists. OutputFolder refuses a folder that holds any other file.
void check_replaceable(const fs::path& out) {
    if (!fs::is_directory(out) || fs::is_empty(out)) return;
    const std::optional<DataMeta> meta = own_meta(out);
    if (!meta)
        fail(ExitCode::kUsage, "{} was not made by `data prepare` (it has no {} of it): not replacing it",
             out.string(), kMetaFile);
    for (const fs::directory_entry& entry : fs::directory_iterator(out)) {
        const std::string name = entry.path().filename();
        if (!is_own_name(name) || !name.ends_with(".bin")) continue;
        const std::string first_unlisted = name.starts_with("train_")
                                               ? fmt::format("train_{:06}.bin", meta->train.shards)
                                               : fmt::format("val_{:06}.bin", meta->val.shards);
        if (name >= first_unlisted)
            fail(ExitCode::kUsage, "{} holds {}, which its {} does not list: move it, or give another folder",
                 out.string(), name, kMetaFile);
    }
}

void write_file(const fs::path& path, std::string_view bytes) {
    FileWriter file(path);
    file.write(bytes);
    file.finish();
}

/// The front of the first training document, from its tokens.
std::string first_document(const fs::path& folder, const Tokenizer& tokenizer) {
    constexpr size_t kTokens = 200, kBytes = 160;
    const Shard shard = std::move(open_shards(shard_glob(folder, "train")).front());
    std::vector<int32_t> tokens(std::min(kTokens, static_cast<size_t>(shard.tokens())));
    shard.read(0, tokens);
    tokens.erase(std::find(tokens.begin(), tokens.end(), tokenizer.eos_id()), tokens.end());
    const std::string text = tokenizer.decode(tokens);
    const std::string_view front = utf8_prefix(text, kBytes);
    return front.size() < text.size() ? std::string(front) + "..." : text;
}

std::vector<std::string> describe(const Encoded& encoded, const DataMeta& meta) {
    std::vector<std::string> notes;
    if (encoded.split.last_to_train)
        notes.push_back("every document was hashed to the validation split: the last one went to training");
    if (encoded.split.tail_tokens > 0)
        notes.push_back(fmt::format(
            "the documents hashed to the validation split have too few tokens: the last {} tokens of the "
            "corpus were held out as well (--val-tokens)",
            encoded.split.tail_tokens));
    if (meta.val_fraction > 0 && meta.val.tokens == 0)
        notes.push_back(
            fmt::format("there is no validation split: the input has {} tokens", meta.train.tokens));
    if (encoded.repaired > 0)
        notes.push_back(
            fmt::format("documents with invalid UTF-8, replaced by U+FFFD: {}", encoded.repaired));
    if (encoded.skipped > 0)
        notes.push_back(fmt::format("lines skipped because they have no usable text: {}; the first: {}",
                                    encoded.skipped, encoded.first_problem));
    return notes;
}

}  // namespace

PrepareResult prepare(const PrepareOptions& options, const Report& report) {
    if (!(options.val_fraction >= 0 && options.val_fraction < 1))
        fail(ExitCode::kUsage, "--val-fraction {}: expected at least 0 and less than 1",
             options.val_fraction);
    if (options.shard_tokens < 1 || options.shard_tokens > INT32_MAX)
        fail(ExitCode::kUsage, "--shard-tokens {}: expected 1 to {}", options.shard_tokens, INT32_MAX);
    if (options.format.max_document < 1 || options.format.max_document > kLargestDocument)
        fail(ExitCode::kUsage, "--max-document {}: expected 1 to {} bytes", options.format.max_document,
             kLargestDocument);
    if (options.force) check_replaceable(options.out);
    const int threads = options.threads > 0 ? options.threads : hardware_threads();
    const std::vector<std::string> files = corpus_files(options.inputs);
    OutputFolder folder(options.out, options.force, is_own_name);

    const std::shared_ptr<const Tokenizer> tokenizer = make_tokenizer(files, options, report);
    SplitWriter train(folder.staging(), "train", tokenizer->vocab_size(), options.shard_tokens);
    SplitWriter val(folder.staging(), "val", tokenizer->vocab_size(), options.shard_tokens);
    const Encoded encoded = encode_corpus(files, options, threads, *tokenizer, train, val, report);
    if (train.documents() == 0) fail(ExitCode::kCorruptData, "the input holds no document with text in it");

    PrepareResult result;
    DataMeta& meta = result.meta;
    meta.tokenizer = tokenizer->kind();
    meta.vocab_size = tokenizer->vocab_size();
    meta.eos_id = tokenizer->eos_id();
    meta.val_fraction = options.val_fraction;
    meta.seed = options.seed;
    meta.repaired_documents = encoded.repaired;
    meta.skipped_lines = encoded.skipped;
    meta.val_tail_tokens = encoded.split.tail_tokens;
    meta.train = train.finish(threads);
    meta.val = val.finish(threads);
    result.notes = describe(encoded, meta);
    result.sample = first_document(folder.staging(), *tokenizer);
    for (const TokenizerFile& file : tokenizer->files()) write_file(folder.staging() / file.name, file.bytes);
    write_file(folder.staging() / kMetaFile, to_json(meta));
    folder.commit();
    return result;
}

}  // namespace pastur
