// pastur eval: loss and perplexity of a checkpoint or a Hugging Face folder on shards or text, and its accuracy on multiple
// choice.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/corpus/corpus_files.h"
#include "data/files.h"
#include "data/meta.h"
#include "data/output.h"
#include "data/shards/shard.h"
#include "data/shards/token_file.h"
#include "engine/io/console.h"
#include "engine/train/scoring/choice_scores.h"
#include "engine/train/scoring/model_tokenizer.h"
#include "engine/train/scoring/stream_loss.h"
#include "tools/pastur/commands.h"
#include "tools/pastur/eval/eval_logits.h"
#include "tools/pastur/precision_note.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

struct EvalArguments {
    std::string checkpoint, data, choices, tokenizer, device = "auto", precision = "auto", logits;
    CorpusFormat format;
    int64_t max_tokens = 0, seq_len = 0, stride = 0, limit = 0;
    bool json = false;      ///< --json is given
    std::string json_file;  ///< empty: standard output
};

/// What --data names.
struct DataSource {
    std::string shards;              ///< a glob; empty: text
    std::vector<std::string> texts;  ///< files
    std::string folder;              ///< made by `data prepare`; empty: none is known
};

DataSource find_data(const std::string& data) {
    const bool is_folder = std::filesystem::is_directory(data);
    if (is_folder && path_exists(std::filesystem::path(data) / kMetaFile))
        return {shard_glob(data, "val"), {}, data};
    if (is_folder && !expand_paths(shard_glob(data, "val")).empty()) return {shard_glob(data, "val"), {}, ""};
    if (is_folder) return {"", corpus_files({data}), ""};
    const std::vector<std::string> paths = shard_paths(data);
    if (paths.empty() && data.ends_with(".bin")) return {data, {}, ""};  // the loader says what is wrong
    if (paths.empty())
        fail(ExitCode::kMissingInput, "{}: expected shards, text, JSON lines or a folder of `data prepare`",
             data);
    if (std::filesystem::is_directory(paths.front()) || !is_shard(paths.front()))
        return {"", corpus_files({data}), ""};
    const std::filesystem::path folder =
        std::filesystem::path(parse_typed_path(paths.front()).path).parent_path();
    const bool prepared = path_exists(folder / kMetaFile);
    return {data, {}, prepared ? (folder.empty() ? "." : folder.string()) : ""};
}

int64_t stride_for(const EvalArguments& arguments, int64_t seq_len) {
    if (arguments.stride > seq_len)
        fail(ExitCode::kUsage, "--stride {}: expected at most the {} tokens of a window (--seq-len)",
             arguments.stride, seq_len);
    return arguments.stride > 0 ? arguments.stride : seq_len;
}

nlohmann::ordered_json to_json(const StreamLoss& result, const ModelFolder& folder, int64_t seq_len,
                               int64_t stride) {
    nlohmann::ordered_json json = {{"checkpoint", folder.path().string()},
                                   {"loss", result.loss()},
                                   {"ppl", result.perplexity()},
                                   {"tokens", result.tokens},
                                   {"seq_len", seq_len},
                                   {"stride", stride}};
    if (const auto bits = result.bits_per_byte()) {
        json["bits_per_byte"] = *bits;
        json["bytes"] = result.text->bytes;
    }
    if (const auto bits = result.bits_per_word()) {
        json["bits_per_word"] = *bits;
        json["words"] = result.text->words;
    }
    return json;
}

std::string to_text(const StreamLoss& result, const ModelFolder& folder) {
    std::string text = fmt::format("{}: loss {:.6f} nats per token, perplexity {:.3f}",
                                   folder.path().string(), result.loss(), result.perplexity());
    if (const auto bits = result.bits_per_byte()) text += fmt::format(", {:.4f} bits per byte", *bits);
    if (const auto bits = result.bits_per_word()) text += fmt::format(", {:.4f} bits per word", *bits);
    text += fmt::format(", over {} tokens", result.tokens);
    if (result.text) text += fmt::format(", {} bytes", result.text->bytes);
    return text;
}

/// The sentence and, where --json asks for it, the object: in its file, or in place of the sentence.
void report(const EvalArguments& arguments, const std::string& text, const nlohmann::ordered_json& json) {
    if (!arguments.json_file.empty()) write_file_atomically(arguments.json_file, json.dump(2) + "\n");
    if (arguments.json && arguments.json_file.empty())
        print_text("{}\n", json.dump());
    else
        print_text("{}\n", printable(text));
}

/// The logits of the sequences that were scored.
void write_logits_of(const EvalArguments& arguments, SequenceScorer& scorer, const TokenLoader& data,
                     int64_t seq_len, int64_t tokens) {
    Model& model = scorer.model_for({1, seq_len});
    DeviceBatch batch(scorer.ctx(), model.shape());
    write_logits(arguments.logits, scorer.ctx(), model, batch, data, tokens / seq_len);
}

/// What the shards were made with, for the size of their text; null where their folder has none.
std::shared_ptr<const Tokenizer> tokenizer_of_shards(const EvalArguments& arguments, const ModelFolder& model,
                                                     const std::string& folder) {
    if (!arguments.tokenizer.empty()) return tokenizer_of_model(model, arguments.tokenizer);
    if (folder.empty()) return nullptr;
    try {
        return load_tokenizer(folder);
    } catch (const Error& error) {
        if (error.code() == ExitCode::kMissingInput) return nullptr;
        throw;
    }
}

int eval_data(const EvalArguments& arguments, const ModelFolder& folder, Context& ctx, Precision precision,
              int64_t seq_len) {
    const int64_t vocab = folder.config().model.vocab, stride = stride_for(arguments, seq_len);
    const DataSource source = find_data(arguments.data);
    const StreamLimits limits = {seq_len, arguments.max_tokens};
    std::shared_ptr<const TokenLoader> shards;  // null: text
    std::unique_ptr<ScoredStream> stream;
    if (source.shards.empty()) {
        if (!arguments.logits.empty())
            fail(ExitCode::kUsage, "--logits: expected shards as --data; {} is text", arguments.data);
        stream = text_stream(source.texts, arguments.format, limits,
                             required_tokenizer(folder, arguments.tokenizer));
    } else {
        shards = std::make_shared<TokenLoader>(source.shards, seq_len, vocab, /*seed=*/0);
        stream = shard_stream(shards, limits, tokenizer_of_shards(arguments, folder, source.folder));
    }
    for (const std::string& note : stream->notes()) Console::err().write(note + "\n");
    SequenceScorer scorer(ctx, folder, precision, seq_len);
    scorer.set_separator(stream->separator());
    const StreamLoss result = score_stream(scorer, *stream, seq_len, stride);
    if (!arguments.logits.empty()) write_logits_of(arguments, scorer, *shards, seq_len, result.tokens);
    report(arguments, to_text(result, folder), to_json(result, folder, seq_len, stride));
    return 0;
}

nlohmann::ordered_json to_json(const ChoiceScores& scores, const ChoiceFile& file) {
    nlohmann::ordered_json json;
    const auto add = [&](const std::string& name, const ChoiceScores::Accuracy& accuracy) {
        json[name] = accuracy.mean;
        json[name + "_stderr"] = accuracy.stderr_of_mean;
    };
    add("acc", scores.accuracy);
    add("acc_norm", scores.accuracy_by_character);
    add("acc_bytes", scores.accuracy_by_byte);
    json["truncated"] = scores.truncated;
    for (size_t i = 0; i < file.documents.size(); ++i) {
        const ChoiceDocument& document = file.documents[i];
        const ChoiceScores::Document& found = scores.documents[i];
        json["per_document"].push_back({{"line", document.line},
                                        {"answer", document.answer},
                                        {"best", found.best},
                                        {"best_norm", found.best_by_character},
                                        {"best_bytes", found.best_by_byte},
                                        {"loglikelihoods", found.loglikelihoods},
                                        {"tokens", found.tokens}});
    }
    return json;
}

int eval_choices(const EvalArguments& arguments, const ModelFolder& folder, Context& ctx, Precision precision,
                 int64_t seq_len) {
    const ChoiceFile file = read_choices(arguments.choices, arguments.limit);
    const std::shared_ptr<const Tokenizer> tokenizer = required_tokenizer(folder, arguments.tokenizer);
    const SpecialTokens& special = folder.tokens();
    const bool has_bos = !special.bos.empty() && special.bos.front() < folder.config().model.vocab;
    const int64_t prefix = has_bos ? special.bos.front() : tokenizer->eos_id();
    SequenceScorer scorer(ctx, folder, precision, seq_len);
    scorer.set_separator(tokenizer->eos_id());
    const ChoiceScores scores =
        score_choices(scorer, file, arguments.choices, *tokenizer, static_cast<int32_t>(prefix), seq_len);
    nlohmann::ordered_json json = {{"checkpoint", folder.path().string()},
                                   {"choices", arguments.choices},
                                   {"format", name_of(file.format)},
                                   {"documents", file.documents.size()},
                                   {"seq_len", seq_len}};
    json.update(to_json(scores, file));
    const auto percent = [](const ChoiceScores::Accuracy& accuracy) {
        return fmt::format("{:.2f} +- {:.2f} %", 100 * accuracy.mean, 100 * accuracy.stderr_of_mean);
    };
    report(arguments,
           fmt::format("{}: accuracy {}, per character {}, per byte {}, over {} questions ({}) of {}{}",
                       folder.path().string(), percent(scores.accuracy),
                       percent(scores.accuracy_by_character), percent(scores.accuracy_by_byte),
                       file.documents.size(), name_of(file.format), arguments.choices,
                       scores.truncated
                           ? fmt::format("; contexts that lost their beginning: {}", scores.truncated)
                           : ""),
           json);
    return 0;
}

/// Throws (kUsage) for options of the other kind of evaluation, which would change nothing.
void check_options(const EvalArguments& arguments) {
    if (arguments.data.empty() == arguments.choices.empty())
        fail(ExitCode::kUsage, "expected --data or --choices, and not both (see `pastur eval --help`)");
    const std::pair<const char*, bool> of_data[] = {{"--max-tokens", arguments.max_tokens > 0},
                                                    {"--stride", arguments.stride > 0},
                                                    {"--logits", !arguments.logits.empty()}};
    for (const auto& [name, given] : of_data)
        if (given && arguments.data.empty())
            fail(ExitCode::kUsage, "{} is for --data, not for --choices", name);
    if (arguments.limit > 0 && arguments.choices.empty())
        fail(ExitCode::kUsage, "--limit is for --choices: --max-tokens limits --data");
}

int eval(const EvalArguments& arguments) {
    check_options(arguments);
    const Device device = parse_device(arguments.device);
    const auto precision = parse_choice<Precision>(arguments.precision, "--precision " + arguments.precision);
    const ModelFolder folder(arguments.checkpoint);
    folder.check_computable();
    const int64_t seq_len = arguments.seq_len > 0 ? arguments.seq_len : folder.config().data.seq_len;
    Context ctx = make_context(device);
    note_precision(folder, precision, is_cuda(ctx) ? DType::kBF16 : DType::kF32,
                   "; --precision fp8 computes as in training");
    return arguments.choices.empty() ? eval_data(arguments, folder, ctx, precision, seq_len)
                                     : eval_choices(arguments, folder, ctx, precision, seq_len);
}

void add_data_options(CLI::App& command, EvalArguments& arguments) {
    command
        .add_option("--data", arguments.data,
                    "Folder of val_*.bin shards; or shards, text or JSON lines (plain, gzip, Zstandard): a "
                    "file, glob or folder")
        ->type_name("PATH");
    command.add_option("--field", arguments.format.field, "Field of a JSON object that holds the text")
        ->capture_default_str();
    command
        .add_option("--separator", arguments.format.separator, "Line between the documents of a text file")
        ->capture_default_str();
    command.add_option("--max-tokens,--tokens", arguments.max_tokens, "Most tokens to score; 0: all")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
        ->capture_default_str();
    command
        .add_option("--stride", arguments.stride,
                    "Tokens between the starts of overlapping windows of --seq-len tokens, so each token is "
                    "scored with more context; 0: windows do not overlap")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
        ->capture_default_str();
    command
        .add_option("--logits", arguments.logits,
                    "Write tokens.<i> [T] and logits.<i> [T, V] of every sequence here, a safetensors file")
        ->type_name("FILE");
}

void add_choice_options(CLI::App& command, EvalArguments& arguments) {
    command
        .add_option(
            "--choices", arguments.choices,
            "Multiple choice instead of --data: JSON lines with the fields of HellaSwag, ARC or PIQA, or "
            "context, choices and answer")
        ->type_name("FILE");
    command.add_option("--limit", arguments.limit, "Most questions of --choices; 0: all")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
        ->capture_default_str();
}

}  // namespace

void add_eval_command(CLI::App& app, std::function<int()>& run) {
    CLI::App* command = app.add_subcommand(
        "eval", "Loss and perplexity of a model on shards or text, and its accuracy on multiple choice");
    const auto arguments = std::make_shared<EvalArguments>();
    command
        ->add_option("--checkpoint", arguments->checkpoint,
                     "Checkpoint folder, a run folder (its newest checkpoint) or a Hugging Face folder")
        ->required()
        ->type_name("DIR");
    add_data_options(*command, *arguments);
    add_choice_options(*command, *arguments);
    command
        ->add_option(
            "--tokenizer", arguments->tokenizer,
            "Tokenizer of the text: bytes, a tokenizer.model, a tokenizer.json or a folder of `data prepare` "
            "(default: the model's)")
        ->type_name("T");
    command
        ->add_option(
            "--seq-len", arguments->seq_len,
            "Tokens of a sequence; 0: as in training, or the positions of a Hugging Face model, at most "
            "2048")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
        ->capture_default_str();
    command->add_option("--device", arguments->device, "auto, cpu or cuda")->capture_default_str();
    command->add_option("--precision", arguments->precision, "auto, bf16, fp32 or fp8")
        ->capture_default_str();
    CLI::Option* const json =
        command
            ->add_option("--json", arguments->json_file,
                         "One JSON object: instead of the sentence, or with FILE next to it")
            ->expected(0, 1)
            ->type_name("[FILE]");
    command->callback([arguments, json, &run] {
        arguments->json = json->count() > 0;
        run = [arguments] { return eval(*arguments); };
    });
}

}  // namespace pastur
