#pragma once
// Sequences that are made of documents instead of a stream.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pastur {

/// What a sequence of seq_len + 1 tokens is. kStream: consecutive tokens, across documents. kDocuments: whole documents,
/// packed; a document is cut only if it is longer than a sequence. kPad: one document, truncated or padded.
enum class SequenceLayout : uint8_t { kStream, kDocuments, kPad };

/// The pieces of the token stream that each sequence holds: a table made once from the ends of the documents (16 bytes
/// for each piece and 8 for each sequence; 40 bytes for each piece while it is made). The rest of a sequence is padding.
///
/// kDocuments packs by best fit, longest pieces first: each piece goes to the fullest sequence that has room for it.
/// Ding et al. 2024 ("Fewer Truncations Improve Language Modeling", arXiv 2404.10830) use it for pretraining; bins are
/// kept by their free room, so it takes O(n log seq_len). The pieces of a sequence are in the order of the corpus. A
/// document of more than seq_len + 1 tokens becomes pieces of this size that overlap in one token, as sequences of a
/// stream do, and a remainder that is packed.
class SequencePlan {
  public:
    struct Piece {
        int64_t begin, size;  ///< tokens of the stream
    };

    /// ends: of the documents, ascending; tokens behind the last one are a document as well. layout: kDocuments or kPad.
    SequencePlan(SequenceLayout layout, std::span<const int64_t> ends, int64_t tokens, int64_t seq_len);

    int64_t sequences() const { return std::ssize(firsts_) - 1; }
    std::span<const Piece> pieces(int64_t sequence) const;
    /// Number of tokens of the sequence that follow another one, at least 1.
    int64_t targets(int64_t sequence) const;
    /// "1200 sequences of 3400 documents: 12 longer than a sequence are cut, 1.3 % of all positions are padding".
    std::string describe() const;

  private:
    void pack(int64_t capacity);
    SequenceLayout layout_;
    std::vector<Piece> pieces_;    ///< of all sequences, in their order
    std::vector<int64_t> firsts_;  ///< first piece of each sequence, then the number of pieces
    int64_t seq_len_, documents_ = 0, cut_ = 0, tokens_, targets_ = 0;
};

}  // namespace pastur
