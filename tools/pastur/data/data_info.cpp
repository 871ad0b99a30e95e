// pastur data info: shows what is in a folder of token shards.
#include <fmt/format.h>

#include <optional>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/inspect.h"
#include "data/meta.h"
#include "data/tokenizer/tokenizer.h"
#include "kernels/base/error.h"
#include "tools/pastur/data/data_command.h"
#include "tools/pastur/print.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

struct InfoOptions {
    std::string where;
    bool json = false;
    int64_t sample = 120;  ///< tokens shown per split
};

/// The sample as text, or as ids where there is no tokenizer.
std::string show_sample(const ShardGroup& group, const Tokenizer* tokenizer) {
    if (!tokenizer) return fmt::format("ids {}", fmt::join(group.head, " "));
    std::string text = tokenizer->decode(group.head);
    for (size_t at = 0; (at = text.find('\n', at)) != text.npos; at += 4) text.replace(at, 1, "\n    ");
    return text;
}

void print_group(const ShardGroup& group, const SplitMeta* meta) {
    print_text("{:12} {:>7} {:>15} {:>5} {:>9} {:>9} {:>9.4f}", printable(group.name), group.shards,
               group.tokens, group.bits, group.distinct_ids, group.largest_id, group.unigram_entropy);
    if (meta)
        print_text(" {:>11} {:>8.3f} {:>8} {:>8.0f}", meta->documents, meta->bytes_per_token(), meta->median,
                   meta->mean);
    print_text("\n");
}

const SplitMeta* split_of(const std::optional<DataMeta>& meta, const std::string& name) {
    if (!meta) return nullptr;
    return name == "train" ? &meta->train : name == "val" ? &meta->val : nullptr;
}

/// Throws (kCorruptData) when meta.json does not agree with the shards.
void check_against(const SplitMeta& meta, const ShardGroup& group, const std::string& where) {
    if (meta.tokens != group.tokens || meta.shards != group.shards)
        fail(ExitCode::kCorruptData, "{}: {} holds {} tokens in {} shards, but {} says {} in {}", where,
             group.name, group.tokens, group.shards, kMetaFile, meta.tokens, meta.shards);
    if (meta.fingerprint && meta.fingerprint != group.fingerprint)
        fail(
            ExitCode::kCorruptData,
            "{}: the tokens of {} are not those that {} describes: their fingerprint is {:016x}, expected {:016x}",
            where, group.name, kMetaFile, group.fingerprint, *meta.fingerprint);
}

nlohmann::ordered_json describe(const std::vector<ShardGroup>& groups, const std::optional<DataMeta>& meta) {
    nlohmann::ordered_json json;
    json["meta"] = meta ? nlohmann::ordered_json::parse(to_json(*meta)) : nlohmann::ordered_json();
    for (const ShardGroup& group : groups)
        json["shards"][group.name] = {{"shards", group.shards},
                                      {"tokens", group.tokens},
                                      {"bits", group.bits},
                                      {"format", group.format},
                                      {"largest_id", group.largest_id},
                                      {"distinct_ids", group.distinct_ids},
                                      {"unigram_entropy", group.unigram_entropy}};
    return json;
}

void print_table(const std::vector<ShardGroup>& groups, const std::optional<DataMeta>& meta,
                 const Tokenizer* tokenizer) {
    if (meta)
        print_text("tokenizer {}, vocabulary {}, EOS {}, validation fraction {} (seed {})\n\n",
                   meta->tokenizer, meta->vocab_size, meta->eos_id, meta->val_fraction, meta->seed);
    print_text("{:12} {:>7} {:>15} {:>5} {:>9} {:>9} {:>9}", "split", "shards", "tokens", "bits", "ids used",
               "largest", "nats/tok");
    if (meta) print_text(" {:>11} {:>8} {:>8} {:>8}", "documents", "bytes/tok", "med. len", "mean len");
    print_text("\n");
    for (const ShardGroup& group : groups) print_group(group, split_of(meta, group.name));
    for (const ShardGroup& group : groups)
        for (const std::string& note : group.notes) print_text("{}\n", printable(note));
    for (const ShardGroup& group : groups)
        print_text("\n{} begins:\n    {}\n", printable(group.name), show_sample(group, tokenizer));
}

int run_info(const InfoOptions& options) {
    const std::vector<ShardGroup> groups = inspect_shards(options.where, options.sample);
    std::optional<DataMeta> meta;
    std::shared_ptr<const Tokenizer> tokenizer;
    if (fs::exists(fs::path(options.where) / kMetaFile)) {
        meta = read_meta(options.where);
        tokenizer = load_tokenizer(options.where);
        for (const ShardGroup& group : groups)
            if (const SplitMeta* split = split_of(meta, group.name))
                check_against(*split, group, options.where);
    }
    if (options.json) {
        print_text("{}\n", describe(groups, meta).dump(2));
    } else {
        print_table(groups, meta, tokenizer.get());
    }
    return 0;
}

}  // namespace

void add_data_info(CLI::App& data, std::function<int()>& run) {
    CLI::App& command = *data.add_subcommand("info", "Show what token shards hold");
    const auto options = std::make_shared<InfoOptions>();
    command
        .add_option("DIR", options->where, "Folder made by `data prepare`, or shards: a folder, file or glob")
        ->required();
    command.add_flag("--json", options->json, "Print one JSON object");
    command.add_option("--sample", options->sample, "Tokens to show per split")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.callback([&run, options] { run = [options] { return run_info(*options); }; });
}

}  // namespace pastur
