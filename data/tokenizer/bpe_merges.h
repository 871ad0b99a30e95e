#pragma once
// Byte pair encoding of one pre-token: which merges there are, and how they apply.
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/token_windows.h"

namespace pastur {

/// The token `merged` replaces `left` followed by `right`.
struct BpeMerge {
    int32_t left, right, merged;
};

/// Merges by rank. The pair of the lowest rank is merged first, and the leftmost one of equal rank, until no adjacent
/// pair has a merge. Thread-safe.
class BpeMerges {
  public:
    /// The ids of the 256 bytes, -1 for those that are left out of the text, and the merges in order of rank. If a pair occurs twice, its last rank counts.
    BpeMerges(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges);

    /// Memory that encode() uses again. One a thread.
    struct Workspace {
        struct Symbol {
            int32_t id;
            uint32_t next, previous;  ///< places of the neighbours, kNone at the ends
            uint32_t end;             ///< place of the byte behind it
        };
        struct Candidate {
            uint32_t rank, at;
            int32_t left, right;
        };
        std::vector<Symbol> symbols;
        std::vector<Candidate> heap;
        std::vector<uint32_t> ranks;
        std::vector<int32_t> ids;
        std::string kept;
        TokenWindows windows{32 << 10, SIZE_MAX};
    };

    /// Appends the ids of `bytes`. Time is n log n in their number; memory does not grow with it, because long runs are
    /// encoded in windows.
    void encode(std::string_view bytes, Workspace& workspace, std::vector<int32_t>& out) const;

  private:
    struct Entry {
        uint64_t pair = kEmpty;
        uint32_t rank = 0;
        int32_t merged = 0;
    };
    static constexpr uint64_t kEmpty = ~uint64_t{0};
    static uint64_t pair_of(int32_t left, int32_t right) {
        return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
    }
    const Entry* find(int32_t left, int32_t right) const;
    Entry& slot(uint64_t pair);
    void push(Workspace& workspace, uint32_t left, uint32_t right) const;
    void encode_short(std::string_view bytes, Workspace& workspace, std::vector<int32_t>& out) const;
    void encode_window(std::string_view bytes, size_t begin, Workspace& workspace,
                       std::vector<PlacedToken>& out) const;

    std::array<int32_t, 256> byte_ids_;
    bool leaves_out_bytes_;
    std::vector<Entry> table_;  ///< open addressing; a power of two of slots, at most half of them in use
    uint64_t mask_ = 0;
};

}  // namespace pastur
