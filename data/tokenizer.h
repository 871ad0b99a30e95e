#pragma once
// Text to token ids and back.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pastur {

/// Thread-safe.
class Tokenizer {
  public:
    virtual ~Tokenizer() = default;
    virtual std::string kind() const = 0;  ///< "bytes" or "sentencepiece"
    virtual int64_t vocab_size() const = 0;
    virtual int32_t eos_id() const = 0;
    /// Text of the tokens; EOS and other control tokens have none. Throws (kCorruptData) for ids beyond the
    /// vocabulary.
    virtual std::string decode(std::span<const int32_t> ids) const = 0;
    /// The bytes of `tokenizer.model`; empty where there is nothing to store.
    virtual std::string serialized() const = 0;

    /// Encodes with a cache of its own: one a thread.
    class Encoder {
      public:
        virtual ~Encoder() = default;
        /// Appends the ids of valid UTF-8 text, without EOS. The result does not depend on what was encoded
        /// before.
        virtual void encode(std::string_view text, std::vector<int32_t>& out) = 0;
    };
    virtual std::unique_ptr<Encoder> make_encoder() const = 0;

    std::vector<int32_t> encode(std::string_view text) const;
};

/// 256 bytes and EOS = 256.
std::shared_ptr<const Tokenizer> byte_tokenizer();

/// From a SentencePiece model; `origin` names it in messages. Throws (kCorruptData) when it is damaged or has
/// no end-of-sentence piece.
std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string serialized, const std::string& origin);

/// The tokenizer of a folder made by `data prepare`, or of its tokenizer.model itself. Throws (kMissingInput,
/// kCorruptData).
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& path);

}  // namespace pastur
