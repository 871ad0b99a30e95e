#pragma once
// Text to token ids and back.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// A file of a tokenizer: its name in a folder of data or of a model, and its bytes.
struct TokenizerFile {
    std::string name, bytes;
};

/// Thread-safe.
class Tokenizer {
  public:
    virtual ~Tokenizer() = default;
    virtual std::string kind() const = 0;  ///< "bytes", "sentencepiece" or "bpe"
    virtual int64_t vocab_size() const = 0;
    virtual int32_t eos_id() const = 0;
    /// Text of the tokens; EOS and other control tokens have none. Throws (kCorruptData) for ids outside the
    /// vocabulary.
    virtual std::string decode(std::span<const int32_t> ids) const = 0;
    /// What load_tokenizer() needs in a folder; empty: nothing.
    virtual std::vector<TokenizerFile> files() const = 0;

    /// Encodes with a cache of its own. One a thread.
    class Encoder {
      public:
        virtual ~Encoder() = default;
        /// Appends the ids of valid UTF-8 text, without EOS. The result does not depend on earlier calls.
        virtual void encode(std::string_view text, std::vector<int32_t>& out) = 0;
    };
    virtual std::unique_ptr<Encoder> make_encoder() const = 0;

    std::vector<int32_t> encode(std::string_view text) const;
};

/// Ids 0 to 255 are bytes, 256 is EOS.
std::shared_ptr<const Tokenizer> byte_tokenizer();

/// From a SentencePiece model; `origin` names it in messages. Throws (kCorruptData) when it is damaged or has
/// no end-of-sentence piece. The memory an encoder takes does not grow with the text. Ids are those of the whole text, with
/// two exceptions: runs of more than 64 KiB without a place to cut, in models that are not BPE; and, in models that
/// normalise, 256 KiB without a space between two ASCII letters or digits.
std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string serialized, const std::string& origin);

/// Byte-level BPE, from the text of a tokenizer.json of Hugging Face; `origin` names it in messages. Ids are those of the
/// library `tokenizers` without special tokens around the text; added tokens in the text are found as there. `folder`
/// holds the files that name the end of a document (end_token.h). Throws (kCorruptData) if the file is damaged, says
/// what is not supported (tokenizer_json.h), or no end token is found.
std::shared_ptr<const Tokenizer> bpe_tokenizer(std::string json, const std::filesystem::path& folder,
                                               const std::string& origin);

/// The tokenizer.model or tokenizer.json of a folder; none: it has neither. Where it has both, the first one, because the
/// other was made from it. Throws (kIo).
std::optional<std::filesystem::path> tokenizer_file_in(const std::filesystem::path& folder);

/// The tokenizer of a tokenizer.model, of a tokenizer.json, or of a folder: made by `data prepare`, a checkpoint, or a
/// Hugging Face folder. Throws (kMissingInput, kCorruptData).
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path);

}  // namespace pastur
