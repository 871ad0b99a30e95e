#include "data/tokenizer/tokenizer.h"

#include <filesystem>

#include "data/files.h"
#include "data/meta.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

class ByteTokenizer final : public Tokenizer {
  public:
    static constexpr int32_t kEos = 256;
    std::string kind() const override { return "bytes"; }
    int64_t vocab_size() const override { return kEos + 1; }
    int32_t eos_id() const override { return kEos; }
    std::vector<TokenizerFile> files() const override { return {}; }

    std::string decode(std::span<const int32_t> ids) const override {
        std::string text;
        for (const int32_t id : ids) {
            if (id < 0 || id > kEos)
                fail(ExitCode::kCorruptData,
                     "token id {} is not below {}, the size of the vocabulary of bytes", id, kEos + 1);
            if (id != kEos) text += static_cast<char>(id);
        }
        return text;
    }

    std::unique_ptr<Encoder> make_encoder() const override {
        struct ByteEncoder final : Encoder {
            void encode(std::string_view text, std::vector<int32_t>& out) override {
                for (const char c : text) out.push_back(static_cast<uint8_t>(c));
            }
        };
        return std::make_unique<ByteEncoder>();
    }
};

constexpr int64_t kMaxModelBytes = 64 << 20;

fs::path file_in(const fs::path& folder) {
    if (const auto file = tokenizer_file_in(folder)) return *file;
    fail(ExitCode::kMissingInput, "{}: no tokenizer in it: expected {}, {} or {}", folder.string(),
         kTokenizerFile, kTokenizerJsonFile, kMetaFile);
}

std::shared_ptr<const Tokenizer> load_from_folder(const fs::path& folder) {
    if (!path_exists(folder / kMetaFile)) return load_tokenizer(file_in(folder));
    const DataMeta meta = read_meta(folder);
    if (meta.tokenizer == "bytes") return byte_tokenizer();
    const fs::path file = file_in(folder);
    auto tokenizer = load_tokenizer(file);
    if (tokenizer->vocab_size() != meta.vocab_size)
        fail(ExitCode::kCorruptData, "{} has {} pieces, but {} was written with {}", file.string(),
             tokenizer->vocab_size(), kMetaFile, meta.vocab_size);
    if (tokenizer->eos_id() != meta.eos_id)
        fail(ExitCode::kCorruptData, "{} ends documents with token {}, but {} was written with {}",
             file.string(), tokenizer->eos_id(), kMetaFile, meta.eos_id);
    return tokenizer;
}

}  // namespace

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<int32_t> ids;
    make_encoder()->encode(text, ids);
    return ids;
}

std::shared_ptr<const Tokenizer> byte_tokenizer() {
    return std::make_shared<ByteTokenizer>();
}

std::optional<fs::path> tokenizer_file_in(const fs::path& folder) {
    for (const char* name : {kTokenizerFile, kTokenizerJsonFile})
        if (path_exists(folder / name)) return folder / name;
    return std::nullopt;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
    if (fs::is_directory(path)) return load_from_folder(path);
    std::string bytes = read_file(path, kMaxModelBytes);
    // No SentencePiece model begins with a brace.
    const size_t first = bytes.find_first_not_of(" \t\r\n");
    if (first != bytes.npos && bytes[first] == '{')
        return bpe_tokenizer(std::move(bytes), fs::path(path).parent_path(), path);
    return sentencepiece_tokenizer(std::move(bytes), path);
}

}  // namespace pastur
