#include "data/meta.h"

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 2, kNamedFingerprints = 1;
constexpr int64_t kMaxMetaBytes = 1 << 20;

// 64-bit hashes are hexadecimal text: many JSON readers keep 53 bits of a number.
std::string hex(uint64_t value) {
    return fmt::format("{:016x}", value);
}

Json split_to_json(const SplitMeta& split) {
    Json json = {
        {"shards", split.shards},
        {"documents", split.documents},
        {"tokens", split.tokens},
        {"bytes", split.bytes},
        {"bytes_per_token", split.bytes_per_token()},
        {"unigram_entropy", split.unigram_entropy},
        {"document_tokens",
         {{"min", split.shortest},
          {"median", split.median},
          {"p90", split.p90},
          {"max", split.longest},
          {"mean", split.mean}}},
    };
    if (split.fingerprint) json["fingerprint"] = hex(*split.fingerprint);
    return json;
}

SplitMeta split_from_json(const Json& json, int version) {
    SplitMeta split;
    json.at("shards").get_to(split.shards);
    json.at("documents").get_to(split.documents);
    json.at("tokens").get_to(split.tokens);
    json.at("bytes").get_to(split.bytes);
    json.at("unigram_entropy").get_to(split.unigram_entropy);
    const Json& lengths = json.at("document_tokens");
    lengths.at("min").get_to(split.shortest);
    lengths.at("median").get_to(split.median);
    lengths.at("p90").get_to(split.p90);
    lengths.at("max").get_to(split.longest);
    lengths.at("mean").get_to(split.mean);
    if (version != kNamedFingerprints && split.shards > 0)
        split.fingerprint = std::stoull(json.at("fingerprint").get<std::string>(), nullptr, 16);
    return split;
}

}  // namespace

std::string to_json(const DataMeta& meta) {
    const Json json = {
        {"format", "pastur.data"},
        {"version", kVersion},
        {"tokenizer", meta.tokenizer},
        {"vocab_size", meta.vocab_size},
        {"eos_id", meta.eos_id},
        {"val_fraction", meta.val_fraction},
        {"seed", meta.seed},
        {"repaired_documents", meta.repaired_documents},
        {"skipped_lines", meta.skipped_lines},
        {"val_tail_tokens", meta.val_tail_tokens},
        {"splits", {{"train", split_to_json(meta.train)}, {"val", split_to_json(meta.val)}}},
    };
    return json.dump(2) + "\n";
}

DataMeta read_meta(const std::filesystem::path& folder) {
    const std::string path = folder / kMetaFile;
    const std::string text = read_file(path, kMaxMetaBytes);
    DataMeta meta;
    try {
        const Json json = Json::parse(text);
        const Json& version = json.at("version");
        if (json.at("format") != "pastur.data" || (version != kVersion && version != kNamedFingerprints))
            fail(ExitCode::kCorruptData, "{}: expected format pastur.data, version {} or {}", path,
                 kNamedFingerprints, kVersion);
        json.at("tokenizer").get_to(meta.tokenizer);
        json.at("vocab_size").get_to(meta.vocab_size);
        json.at("eos_id").get_to(meta.eos_id);
        json.at("val_fraction").get_to(meta.val_fraction);
        json.at("seed").get_to(meta.seed);
        json.at("repaired_documents").get_to(meta.repaired_documents);
        meta.skipped_lines = json.value("skipped_lines", int64_t{0});  // not in folders of earlier versions
        meta.val_tail_tokens = json.value("val_tail_tokens", int64_t{0});
        meta.train = split_from_json(json.at("splits").at("train"), version);
        meta.val = split_from_json(json.at("splits").at("val"), version);
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {
        fail(ExitCode::kCorruptData, "{}: {}", path, error.what());
    }
    return meta;
}

}  // namespace pastur
