#include "tools/pastur/generate/model_tokenizer.h"

#include "data/files.h"
#include "data/meta.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFolder& model, const std::string& named) {
    if (named == "bytes") return byte_tokenizer();
    if (!named.empty()) {
        if (!path_exists(named))
            fail(ExitCode::kMissingInput, "--tokenizer {}: no such file or folder (expected \"bytes\", too)",
                 named);
        return load_tokenizer(named);
    }
    if (const fs::path file = model.path() / kTokenizerFile; path_exists(file))
        return load_tokenizer(file.string());
    if (const std::string& data = model.config().data.dir;
        !data.empty() && path_exists(fs::path(data) / kMetaFile))
        return load_tokenizer(data);
    fail(ExitCode::kUsage,
         "{}: no {} in it{}; name the model's tokenizer with --tokenizer (a file or \"bytes\")",
         model.path().string(), kTokenizerFile,
         model.config().data.dir.empty()
             ? std::string()
             : fmt::format(", and its data, {}, is not here", model.config().data.dir));
}

}  // namespace

std::shared_ptr<const Tokenizer> tokenizer_of(const ModelFolder& model, const std::string& named) {
    auto tokenizer = find_tokenizer(model, named);
    if (const int64_t vocab = model.config().model.vocab; tokenizer->vocab_size() > vocab)
        fail(ExitCode::kUsage, "{}: the tokenizer has {} tokens, expected at most the model's {}",
             named.empty() ? model.path().string() : "--tokenizer " + named, tokenizer->vocab_size(), vocab);
    return tokenizer;
}

}  // namespace pastur
