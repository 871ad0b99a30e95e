#include "data/tokenizer/bpe_merges.h"

#include <algorithm>
#include <bit>

namespace pastur {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};
/// Up to this many bytes, a search of all pairs for each merge is faster than a heap.
constexpr size_t kShort = 64;

uint64_t hash(uint64_t pair) {
    pair *= 0x9e3779b97f4a7c15;
    return pair ^ pair >> 29;
}

using Workspace = BpeMerges::Workspace;

/// Whether `b` is to be merged before `a`: the order of a heap with the next merge at its front.
bool is_later(const Workspace::Candidate& a, const Workspace::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

BpeMerges::BpeMerges(const std::array<int32_t, 256>& byte_ids, std::span<const BpeMerge> merges)
    : byte_ids_(byte_ids),
      leaves_out_bytes_(*std::min_element(byte_ids.begin(), byte_ids.end()) < 0),
      table_(std::bit_ceil(2 * merges.size() + 2)),
      mask_(table_.size() - 1) {
    for (size_t rank = 0; rank < merges.size(); ++rank) {
        const BpeMerge& merge = merges[rank];
        const uint64_t pair = pair_of(merge.left, merge.right);
        slot(pair) = {pair, static_cast<uint32_t>(rank), merge.merged};
    }
}

BpeMerges::Entry& BpeMerges::slot(uint64_t pair) {
    uint64_t at = hash(pair) & mask_;
    while (table_[at].pair != pair && table_[at].pair != kEmpty) at = (at + 1) & mask_;
    return table_[at];
}

const BpeMerges::Entry* BpeMerges::find(int32_t left, int32_t right) const {
    const uint64_t pair = pair_of(left, right);
    for (uint64_t at = hash(pair) & mask_;; at = (at + 1) & mask_) {
        if (table_[at].pair == pair) return &table_[at];
        if (table_[at].pair == kEmpty) return nullptr;
    }
}

void BpeMerges::encode(std::string_view bytes, Workspace& workspace, std::vector<int32_t>& out) const {
    if (leaves_out_bytes_) {
        workspace.kept.clear();
        for (const char c : bytes)
            if (byte_ids_[static_cast<uint8_t>(c)] >= 0) workspace.kept += c;
        bytes = workspace.kept;
        if (bytes.empty()) return;
    }
    if (bytes.size() <= kShort)
        encode_short(bytes, workspace, out);
    else
        workspace.windows.encode(
            bytes.size(),
            [&](size_t begin, size_t end, std::vector<PlacedToken>& tokens) {
                encode_window(bytes.substr(begin, end - begin), begin, workspace, tokens);
            },
            out);
}

void BpeMerges::encode_short(std::string_view bytes, Workspace& workspace, std::vector<int32_t>& out) const {
    std::vector<int32_t>& ids = workspace.ids;
    std::vector<uint32_t>& ranks = workspace.ranks;  // rank of the merge of each id with the next one
    const auto rank_at = [&](size_t i) {
        const Entry* const entry = i + 1 < ids.size() ? find(ids[i], ids[i + 1]) : nullptr;
        return entry ? entry->rank : kNone;
    };
    ids.clear();
    ranks.clear();
    for (const char c : bytes) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    for (size_t i = 0; i < ids.size(); ++i) ranks.push_back(rank_at(i));
    while (ids.size() > 1) {
        const auto least = std::min_element(ranks.begin(), ranks.end());
        if (*least == kNone) break;
        const size_t at = static_cast<size_t>(least - ranks.begin());
        ids[at] = find(ids[at], ids[at + 1])->merged;
        ids.erase(ids.begin() + static_cast<int64_t>(at) + 1);
        ranks.erase(ranks.begin() + static_cast<int64_t>(at) + 1);
        ranks[at] = rank_at(at);
        if (at > 0) ranks[at - 1] = rank_at(at - 1);
    }
    out.insert(out.end(), ids.begin(), ids.end());
}

/// Makes the pair of neighbours a candidate if it has a merge.
void BpeMerges::push(Workspace& workspace, uint32_t left, uint32_t right) const {
    if (left == kNone || right == kNone) return;
    const int32_t a = workspace.symbols[left].id, b = workspace.symbols[right].id;
    const Entry* const entry = find(a, b);
    if (!entry) return;
    workspace.heap.push_back({entry->rank, left, a, b});
    std::push_heap(workspace.heap.begin(), workspace.heap.end(), is_later);
}

/// Stores the tokens of bytes [begin, begin + bytes.size()) of a run.
void BpeMerges::encode_window(std::string_view bytes, size_t begin, Workspace& workspace,
                              std::vector<PlacedToken>& out) const {
    std::vector<Workspace::Symbol>& symbols = workspace.symbols;
    std::vector<Workspace::Candidate>& heap = workspace.heap;
    symbols.clear();
    heap.clear();
    out.clear();
    const uint32_t n = static_cast<uint32_t>(bytes.size());
    for (uint32_t i = 0; i < n; ++i)
        symbols.push_back({byte_ids_[static_cast<uint8_t>(bytes[i])], i + 1 < n ? i + 1 : kNone,
                           i > 0 ? i - 1 : kNone, i + 1});
    for (uint32_t i = 0; i + 1 < n; ++i) push(workspace, i, i + 1);
    while (!heap.empty()) {
        std::pop_heap(heap.begin(), heap.end(), is_later);
        const Workspace::Candidate best = heap.back();
        heap.pop_back();
        Workspace::Symbol& left = symbols[best.at];
        if (left.id != best.left || left.next == kNone || symbols[left.next].id != best.right) continue;
        Workspace::Symbol& right = symbols[left.next];
        left.id = find(best.left, best.right)->merged;
        left.next = right.next;
        left.end = right.end;
        right.id = -1;  // no candidate holds it
        if (left.next != kNone) symbols[left.next].previous = best.at;
        push(workspace, left.previous, best.at);
        push(workspace, best.at, left.next);
    }
    for (uint32_t i = 0; i < n; i = symbols[i].end) out.push_back({symbols[i].id, begin + i});
}

}  // namespace pastur
