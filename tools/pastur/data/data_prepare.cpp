// pastur data prepare: turns text into token shards.
#include "data/prepare.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/pastur/data/data_command.h"
#include "tools/pastur/data/data_progress.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

void print_split(const char* name, const SplitMeta& split) {
    print_text(
        "  {:5}  {} documents, {} tokens in {} shards, {:.2f} bytes per token, unigram entropy {:.3f} nats\n",
        name, split.documents, split.tokens, split.shards, split.bytes_per_token(), split.unigram_entropy);
}

int run_prepare(const PrepareOptions& options) {
    PrepareResult result;
    const auto start = std::chrono::steady_clock::now();
    {
        PrepareDisplay display;
        result = prepare(options, std::ref(display));
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (const std::string& note : result.notes) print_note("note: {}\n", printable(note));
    const DataMeta& meta = result.meta;
    print_text("{}: {} tokenizer, vocabulary {}, {:.1f} s\n", printable(options.out.string()), meta.tokenizer,
               meta.vocab_size, seconds);
    print_split("train", meta.train);
    print_split("val", meta.val);
    // A quoted string on one line shows control characters and markup as they are.
    const nlohmann::json sample = result.sample;
    print_text("  first document: {}\n",
               sample.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
}

}  // namespace

void add_data_prepare(CLI::App& data, std::function<int()>& run) {
    CLI::App& command = *data.add_subcommand("prepare", "Turn text into token shards");
    const auto options = std::make_shared<PrepareOptions>();
    command
        .add_option("--input", options->inputs,
                    "Text or JSON lines, plain, gzip or Zstandard: files, globs or folders")
        ->required();
    command
        .add_option(
            "--tokenizer", options->tokenizer,
            "bytes, train:VOCAB (SentencePiece BPE of the input), a tokenizer.model, a tokenizer.json of "
            "byte-level BPE, or a folder with one of them")
        ->required();
    command.add_option("--out", options->out, "Folder to make")->required();
    command
        .add_option_function<std::string>(
            "--format",
            [options](const std::string& name) {
                options->format.format = name == "text"    ? DocumentFormat::kText
                                         : name == "jsonl" ? DocumentFormat::kJsonLines
                                                           : DocumentFormat::kAuto;
            },
            "auto: the content of each file decides; text; jsonl: JSON lines")
        ->check(CLI::IsMember({"auto", "text", "jsonl"}))
        ->default_str("auto");
    command
        .add_option("--val-fraction", options->val_fraction,
                    "Fraction of the documents held out for validation")
        ->capture_default_str();
    command
        .add_option(
            "--val-tokens", options->val_tokens,
            "Validation tokens, at least: where documents are too few, the end of the corpus is held out")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_option("--seed", options->seed, "Seed of the choice of held-out documents")
        ->capture_default_str();
    command.add_option("--separator", options->format.separator, "Line between the documents of a text file")
        ->capture_default_str();
    command.add_option("--field", options->format.field, "Field of a JSON object that holds the text")
        ->capture_default_str();
    command
        .add_option(
            "--max-document", options->format.max_document,
            "Bytes of the longest document or line of JSON, such as 64MiB; memory holds a few per thread")
        ->transform(CLI::AsSizeValue(false))
        ->capture_default_str();
    command
        .add_option("--skip-bad", options->skip_bad,
                    "Lines of JSON without a usable text to pass over, at most")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_option("--shard-tokens", options->shard_tokens, "Tokens per shard, at most")
        ->capture_default_str();
    command.add_option("--threads", options->threads, "Encoding threads (0: one per hardware thread)")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_flag("--force", options->force, "Replace a folder made by this command");
    command.callback([&run, options] { run = [options] { return run_prepare(*options); }; });
}

}  // namespace pastur
