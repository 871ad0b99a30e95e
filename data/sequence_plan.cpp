#include "data/sequence_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/base/error.h"

namespace pastur {

SequencePlan::SequencePlan(SequenceLayout layout, std::span<const int64_t> ends, int64_t tokens,
                           int64_t seq_len)
    : layout_(layout), seq_len_(seq_len), tokens_(tokens) {
    PASTUR_CHECK(layout != SequenceLayout::kStream && seq_len >= 1, "layout {}, seq_len {}",
                 static_cast<int>(layout), seq_len);
    const int64_t capacity = seq_len + 1;
    int64_t begin = 0;
    const auto add_document = [&](int64_t end) {
        if (end == begin) return;
        ++documents_;
        cut_ += end - begin > capacity;
        if (layout == SequenceLayout::kPad) {
            // A document of one token has nothing to predict.
            if (end - begin > 1) pieces_.push_back({begin, std::min(end - begin, capacity)});
        } else {
            for (; end - begin > capacity; begin += seq_len) pieces_.push_back({begin, capacity});
            pieces_.push_back({begin, end - begin});
        }
        begin = end;
    };
    for (const int64_t end : ends) add_document(end);
    add_document(tokens);

    if (layout == SequenceLayout::kDocuments) {
        pack(capacity);
    } else {
        firsts_.resize(pieces_.size() + 1);
        std::iota(firsts_.begin(), firsts_.end(), int64_t{0});
    }
    for (int64_t i = 0; i < sequences(); ++i) targets_ += targets(i);
}

/// Sorts pieces_ by sequence and fills firsts_.
void SequencePlan::pack(int64_t capacity) {
    std::vector<int64_t> order(pieces_.size()), bin(pieces_.size()), filled;
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto size = [&](int64_t piece) { return pieces_[static_cast<size_t>(piece)].size; };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
    std::map<int64_t, std::vector<int64_t>> with_room;  // bins by their free room
    for (const int64_t piece : order) {
        int64_t into = std::ssize(filled);
        if (const auto found = with_room.lower_bound(size(piece)); found != with_room.end()) {
            into = found->second.back();
            found->second.pop_back();
            if (found->second.empty()) with_room.erase(found);
        } else {
            filled.push_back(0);
        }
        int64_t& used = filled[static_cast<size_t>(into)];
        used += size(piece);
        if (used < capacity) with_room[capacity - used].push_back(into);
        bin[static_cast<size_t>(piece)] = into;
    }
    // Sequences are in the order of their first pieces in the corpus, so the first ones are a fair sample.
    std::vector<int64_t> place(filled.size(), -1);
    int64_t places = 0;
    for (const int64_t into : bin)
        if (int64_t& at = place[static_cast<size_t>(into)]; at < 0) at = places++;
    // Only the last bin can hold a single token: it has nothing to predict.
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
        const auto place_of = [&](int64_t piece) {
            return place[static_cast<size_t>(bin[static_cast<size_t>(piece)])];
        };
        return place_of(a) < place_of(b);
    });
    std::vector<Piece> sorted;
    sorted.reserve(pieces_.size());
    int64_t present = -1;
    for (const int64_t piece : order) {
        const int64_t into = bin[static_cast<size_t>(piece)];
        if (filled[static_cast<size_t>(into)] < 2) continue;
        if (into != present) firsts_.push_back(std::ssize(sorted));
        present = into;
        sorted.push_back(pieces_[static_cast<size_t>(piece)]);
    }
    firsts_.push_back(std::ssize(sorted));
    pieces_ = std::move(sorted);
}

std::span<const SequencePlan::Piece> SequencePlan::pieces(int64_t sequence) const {
    const auto begin = static_cast<size_t>(firsts_[static_cast<size_t>(sequence)]);
    const auto end = static_cast<size_t>(firsts_[static_cast<size_t>(sequence) + 1]);
    return std::span(pieces_).subspan(begin, end - begin);
}

int64_t SequencePlan::targets(int64_t sequence) const {
    int64_t tokens = 0;
    for (const Piece& piece : pieces(sequence)) tokens += piece.size;
    return tokens - 1;
}

std::string SequencePlan::describe() const {
    const auto positions = static_cast<double>(sequences() * seq_len_);
    const double padding = positions > 0 ? 100 - 100 * static_cast<double>(targets_) / positions : 0;
    if (layout_ == SequenceLayout::kDocuments)
        return fmt::format(
            "{} sequences of {} documents, packed: {} longer than a sequence are cut, {:.2f} % of all positions are "
            "padding",
            sequences(), documents_, cut_, padding);
    int64_t read = 0;
    for (const Piece& piece : pieces_) read += piece.size;
    return fmt::format(
        "{} sequences of one document each: {} are truncated, which leaves out {:.2f} % of all tokens; {:.2f} % of all "
        "positions are padding",
        sequences(), cut_,
        tokens_ > 0 ? 100 - 100 * static_cast<double>(read) / static_cast<double>(tokens_) : 0, padding);
}

}  // namespace pastur
