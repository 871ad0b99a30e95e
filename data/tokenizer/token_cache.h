#pragma once
#include <xxhash.h>

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace pastur {

/// Ids of short parts of text: text repeats its words, and a look-up is much faster than merging. It is emptied when it
/// is full, so its memory is bounded: 16 MiB and the ids.
class TokenCache {
  public:
    /// Appends the ids of `part`, which encode(part, ids) appends where the cache lacks them.
    template <typename Encode>
    void append(std::string_view part, std::vector<int32_t>& out, const Encode& encode) {
        if (part.size() > sizeof Slot::text || part.empty()) return encode(part, out);
        const uint64_t hash = XXH3_64bits(part.data(), part.size());
        const Slot* slot = &find(part, hash);
        if (slot->size == 0) slot = &add(part, hash, encode);
        if (slot->count == 1) return out.push_back(slot->ids);
        const auto first = ids_.begin() + slot->ids;
        out.insert(out.end(), first, first + slot->count);
    }

  private:
    static constexpr size_t kMost = 1 << 17, kFewestSlots = 1 << 12;
    struct Slot {  // one cache line
        uint64_t hash;
        int32_t ids;        ///< their place in ids_; a single id itself
        uint8_t size = 0;   ///< of the text; 0: the slot is empty
        uint8_t count = 0;  ///< of the ids
        char text[50];
    };
    static_assert(sizeof(Slot) == 64);

    Slot& find(std::string_view part, uint64_t hash) {
        for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
            Slot& slot = slots_[at];
            if (slot.size == 0 || (slot.hash == hash && part == std::string_view(slot.text, slot.size)))
                return slot;
        }
    }
    template <typename Encode>
    Slot& add(std::string_view part, uint64_t hash, const Encode& encode) {
        if (used_ == kMost) {
            slots_.assign(kFewestSlots, {});
            ids_.clear();
            used_ = 0;
        } else if (2 * used_ == slots_.size()) {
            std::vector<Slot> old(2 * slots_.size());
            old.swap(slots_);
            for (const Slot& slot : old)
                if (slot.size > 0) find({slot.text, slot.size}, slot.hash) = slot;
        }
        const size_t begin = ids_.size();
        encode(part, ids_);
        const size_t count = ids_.size() - begin;
        Slot& slot = find(part, hash);
        slot.hash = hash;
        slot.size = static_cast<uint8_t>(part.size());
        slot.count = static_cast<uint8_t>(count);
        slot.ids = static_cast<int32_t>(begin);
        std::memcpy(slot.text, part.data(), part.size());
        if (count == 1) {
            slot.ids = ids_.back();
            ids_.pop_back();
        }
        ++used_;
        return slot;
    }

    std::vector<Slot> slots_ = std::vector<Slot>(kFewestSlots);
    std::vector<int32_t> ids_;
    size_t used_ = 0;
};

}  // namespace pastur
