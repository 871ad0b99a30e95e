#include "engine/convert/token_sequences.h"

#include <algorithm>

#include "data/corpus/corpus.h"
#include "data/corpus/corpus_files.h"
#include "data/files.h"
#include "data/meta.h"
#include "data/shards/shard.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/printable.h"

namespace pastur::convert {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kTokenizerLimit = 64 << 20;
constexpr int64_t kBatchBytes = 1 << 20;

bool has_shards(const std::string& folder, const char* split) {
    return path_exists(fs::path(folder) / fmt::format("{}_000000.bin", split));
}

/// Whether the argument names shards: a folder of them, a .bin file or a glob of .bin files.
bool names_shards(const std::string& data) {
    if (fs::is_directory(data)) return has_shards(data, "train") || has_shards(data, "val");
    return data.ends_with(".bin");
}

/// Throws (kCorruptData) if the folder was made with another tokenizer than that of the model's folder.
void check_tokenizer(const fs::path& folder, const ModelFolder& model) {
    if (!path_exists(folder / kMetaFile)) return;
    const DataMeta meta = read_meta(folder);
    const int64_t vocab = model.config().model.vocab;
    if (meta.vocab_size > vocab)
        fail(ExitCode::kCorruptData,
             "{}: expected data of the model's tokenizer: its tokens are below {}, those of {} below {}",
             folder.string(), meta.vocab_size, model.path().string(), vocab);
    const fs::path theirs = folder / kTokenizerFile, ours = model.path() / kTokenizerFile;
    if (path_exists(theirs) && path_exists(ours) &&
        read_file(theirs, kTokenizerLimit) != read_file(ours, kTokenizerLimit))
        fail(ExitCode::kCorruptData, "{}: expected data of the model's tokenizer: {} and {} differ",
             folder.string(), theirs.string(), ours.string());
}

TokenSequences open_shard_sequences(const std::string& glob, int64_t seq_len, int64_t vocab) {
    const auto loader = std::make_shared<TokenLoader>(glob, seq_len, vocab, /*seed=*/0);
    return {loader->sequences(), seq_len,
            [loader](int64_t i, std::span<int32_t> out) { loader->sequence(i, out); }};
}

std::shared_ptr<const Tokenizer> tokenizer_of(const ModelFolder& model, const std::string& text) {
    const fs::path own = model.path() / kTokenizerFile, data = model.config().data.dir;
    std::shared_ptr<const Tokenizer> tokenizer;
    if (path_exists(own))
        tokenizer = load_tokenizer(own.string());
    else if (!data.empty() && path_exists(data / kMetaFile))
        tokenizer = load_tokenizer(data.string());
    else
        fail(ExitCode::kMissingInput,
             "{}: expected a {} in it to encode {} with: give shards of the model's tokenizer instead",
             model.path().string(), kTokenizerFile, printable(text));
    if (tokenizer->vocab_size() > model.config().model.vocab)
        fail(ExitCode::kCorruptData, "{}: expected a tokenizer of at most {} tokens, the model's: it has {}",
             path_exists(own) ? own.string() : data.string(), model.config().model.vocab,
             tokenizer->vocab_size());
    return tokenizer;
}

/// The first `most` tokens of the documents, each with its EOS.
std::vector<int32_t> encode_text(const std::string& text, const Tokenizer& tokenizer, int64_t most) {
    CorpusReader reader(corpus_files({text}), {});
    DocumentParser parser({});
    const auto encoder = tokenizer.make_encoder();
    std::vector<int32_t> tokens;
    RawDocuments batch;
    while (std::ssize(tokens) < most && reader.next(batch, kBatchBytes))
        for (const RawDocuments::Span& raw : batch.documents) {
            const Document document = parser.parse(batch, raw);
            if (!document.problem.empty() || document.is_blank()) continue;
            encoder->encode(document.text, tokens);
            tokens.push_back(tokenizer.eos_id());
            if (std::ssize(tokens) >= most) break;
        }
    if (std::ssize(tokens) > most) tokens.resize(static_cast<size_t>(most));
    return tokens;
}

TokenSequences open_text_sequences(const std::string& text, const ModelFolder& model, int64_t seq_len,
                                   int64_t most) {
    const auto tokens =
        std::make_shared<std::vector<int32_t>>(encode_text(text, *tokenizer_of(model, text), most + 1));
    return {std::max<int64_t>(std::ssize(*tokens) - 1, 0) / seq_len, seq_len,
            [tokens, seq_len](int64_t i, std::span<int32_t> out) {
                std::copy_n(tokens->begin() + i * seq_len, out.size(), out.begin());
            }};
}

/// All sequences of `data`, of text those of its first `most` tokens. split: which shards of a folder.
TokenSequences open_sequences(const std::string& data, const char* split, const ModelFolder& model,
                              int64_t seq_len, int64_t most) {
    if (!names_shards(data)) return open_text_sequences(data, model, seq_len, most);
    const bool folder = fs::is_directory(data);
    check_tokenizer(folder ? fs::path(data) : fs::path(data).parent_path(), model);
    return open_shard_sequences(folder ? shard_glob(data, split) : data, seq_len, model.config().model.vocab);
}

TokenSequences part(const TokenSequences& whole, int64_t first, int64_t count) {
    return {count, whole.seq_len,
            [read = whole.read, first](int64_t i, std::span<int32_t> out) { read(first + i, out); }};
}

/// The sequences that hold at most `tokens`, at least one.
int64_t sequences_for(int64_t tokens, const TokenSequences& all) {
    return std::clamp<int64_t>(tokens / all.seq_len, 1, std::max<int64_t>(all.count, 1));
}

void check_enough(const TokenSequences& sequences, const std::string& data, int64_t expected) {
    if (sequences.count < expected)
        fail(ExitCode::kCorruptData, "{}: expected at least {} sequences of {} tokens: it holds {}",
             printable(data), expected, sequences.seq_len, sequences.count);
}

}  // namespace

CalibrationText open_text(const TextOptions& options, const ModelFolder& model) {
    constexpr int64_t kHeldOut = 10;  // a tenth
    const int64_t most = options.calibrate_tokens + options.eval_tokens;
    const TokenSequences all = open_sequences(options.calibrate, "train", model, options.seq_len, most);
    std::string eval = options.eval;
    if (eval.empty() && fs::is_directory(options.calibrate) && has_shards(options.calibrate, "val"))
        eval = options.calibrate;
    CalibrationText text;
    if (eval.empty()) {
        check_enough(all, options.calibrate, 2);
        const int64_t held =
            std::min(sequences_for(options.eval_tokens, all), (all.count + kHeldOut - 1) / kHeldOut);
        text.eval = part(all, all.count - held, held);
        text.calibrate =
            part(all, 0, std::min(sequences_for(options.calibrate_tokens, all), all.count - held));
    } else {
        check_enough(all, options.calibrate, 1);
        const TokenSequences other =
            open_sequences(eval, "val", model, options.seq_len, options.eval_tokens + 1);
        check_enough(other, eval, 1);
        text.eval = part(other, 0, sequences_for(options.eval_tokens, other));
        text.calibrate = part(all, 0, sequences_for(options.calibrate_tokens, all));
    }
    return text;
}

}  // namespace pastur::convert
