#include "data/tokenizer/tokenizer.h"

#include <filesystem>

#include "data/files.h"
#include "data/meta.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

class ByteTokenizer final : public Tokenizer {
  public:
    static constexpr int32_t kEos = 256;
    std::string kind() const override { return "bytes"; }
    int64_t vocab_size() const override { return kEos + 1; }
    int32_t eos_id() const override { return kEos; }
    std::string serialized() const override { return {}; }

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

}  // namespace

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<int32_t> ids;
    make_encoder()->encode(text, ids);
    return ids;
}

std::shared_ptr<const Tokenizer> byte_tokenizer() {
    return std::make_shared<ByteTokenizer>();
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path) {
    namespace fs = std::filesystem;
    if (!fs::is_directory(path)) return sentencepiece_tokenizer(read_file(path, kMaxModelBytes), path);
    const DataMeta meta = read_meta(path);
    if (meta.tokenizer == "bytes") return byte_tokenizer();
    auto tokenizer = load_tokenizer(fs::path(path) / kTokenizerFile);
    if (tokenizer->vocab_size() != meta.vocab_size)
        fail(ExitCode::kCorruptData, "{}/{} has {} pieces, but {} was written with {}", path, kTokenizerFile,
             tokenizer->vocab_size(), kMetaFile, meta.vocab_size);
    return tokenizer;
}

}  // namespace pastur
