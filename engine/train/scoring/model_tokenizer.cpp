#include "engine/train/scoring/model_tokenizer.h"

#include "data/files.h"
#include "data/meta.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFolder& folder, const std::string& name) {
    if (name == "bytes") return byte_tokenizer();
    if (!name.empty()) {
        if (!path_exists(name))
            fail(ExitCode::kMissingInput,
                 "no tokenizer {}: expected bytes, a tokenizer file or a folder of `data prepare`", name);
        return load_tokenizer(name);
    }
    if (const auto file = tokenizer_file_in(folder.path())) return load_tokenizer(file->string());
    const fs::path data = folder.config().data.dir;
    return !data.empty() && path_exists(data / kMetaFile) ? load_tokenizer(data) : nullptr;
}

}  // namespace

std::shared_ptr<const Tokenizer> tokenizer_of_model(const ModelFolder& folder, const std::string& name) {
    std::shared_ptr<const Tokenizer> tokenizer = find_tokenizer(folder, name);
    const int64_t vocab = folder.config().model.vocab;
    if (tokenizer && tokenizer->vocab_size() > vocab)
        fail(ExitCode::kUsage, "expected a tokenizer of at most {} tokens, the vocabulary of {}: {} has {}",
             vocab, folder.path().string(), name.empty() ? "the one found" : name, tokenizer->vocab_size());
    return tokenizer;
}

std::shared_ptr<const Tokenizer> required_tokenizer(const ModelFolder& folder, const std::string& name) {
    std::shared_ptr<const Tokenizer> tokenizer = tokenizer_of_model(folder, name);
    const std::string& data = folder.config().data.dir;
    if (!tokenizer)
        fail(ExitCode::kUsage,
             "{}: expected a tokenizer in it{}: name one with --tokenizer (bytes, a tokenizer.model, a "
             "tokenizer.json or a folder of `data prepare`)",
             folder.path().string(),
             data.empty() ? std::string() : fmt::format(", for its data, {}, is not here", data));
    return tokenizer;
}

}  // namespace pastur
