#include "engine/train/hugging_face/hf_files.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/meta.h"
#include "data/mixture.h"
#include "data/output.h"
#include "data/tokenizer/sentencepiece_model.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokenizerLimit = 64 << 20;
constexpr std::string_view kNames[] = {
    "config.json",       "generation_config.json",  "modeling_pastur.py",
    "tokenizer.model",   "tokenizer.json",          "tokenizer_config.json",
    "added_tokens.json", "special_tokens_map.json", "vocab.json",
    "merges.txt",        "chat_template.jinja",
};
constexpr size_t kOfTheModel = 3;

/// The stream has no BOS: documents are separated by EOS alone.
std::string tokenizer_config_json(const std::string& model) {
    const nlohmann::ordered_json json = {
        {"tokenizer_class", "LlamaTokenizer"},
        {"add_bos_token", false},
        {"add_eos_token", false},
        // transformers does not read it from the model.
        {"add_prefix_space", read_sentencepiece_spec(model).add_dummy_prefix},
        {"bos_token", "<s>"},
        {"eos_token", "</s>"},
        {"unk_token", "<unk>"},
        {"clean_up_tokenization_spaces", false},
    };
    return json.dump(2) + "\n";
}

}  // namespace

std::span<const std::string_view> hf_file_names() {
    return kNames;
}

std::span<const std::string_view> tokenizer_file_names() {
    return std::span(kNames).subspan(kOfTheModel);
}

std::vector<TextFile> hf_model_files(const Config& config, const SpecialTokens& tokens, WeightFormat format,
                                     RopeRows rows) {
    std::vector<TextFile> files = {{kHfConfigFile, hf_config_json(config, tokens, format, rows)},
                                   {"generation_config.json", hf_generation_json(tokens)}};
    if (needs_own_class(config))
        for (const HfAsset& asset : hf_assets())
            files.push_back({std::string(asset.name), std::string(asset.text)});
    return files;
}

std::vector<TextFile> hf_checkpoint_files(const Config& config) {
    // The folders of a mixture have one tokenizer.
    const std::string& mixture = config.data.mixture;
    const fs::path data = mixture.empty() ? config.data.dir : parse_mixture(mixture).front().where;
    const bool prepared = !data.empty() && path_exists(data / kMetaFile);
    SpecialTokens tokens;
    // EOS separates documents, so it is what a text begins after.
    if (prepared) tokens.bos = tokens.eos = {read_meta(data).eos_id};
    const WeightFormat format =
        config.train.weights == StateFormat::kFp32 ? WeightFormat::kFp32 : WeightFormat::kBf16;
    std::vector<TextFile> files = hf_model_files(config, tokens, format, RopeRows::kHalves);
    if (prepared && path_exists(data / kTokenizerFile)) {
        const std::string model = read_file(data / kTokenizerFile, kTokenizerLimit);
        files.push_back({kTokenizerFile, model});
        files.push_back({kTokenizerConfigFile, tokenizer_config_json(model)});
    } else if (prepared && path_exists(data / kTokenizerJsonFile)) {
        for (const char* name : {kTokenizerJsonFile, kTokenizerConfigFile})
            files.push_back({name, read_file(data / name, kTokenizerLimit)});
    }
    return files;
}

void write_text_files(const fs::path& folder, const std::vector<TextFile>& files) {
    for (const TextFile& file : files) {
        FileWriter out(folder / file.name);
        out.write(file.text);
        out.finish();
    }
}

}  // namespace pastur
