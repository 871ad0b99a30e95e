#include "engine/train/optimizer/range_gather.h"

#include "kernels/fill.h"

namespace pastur {
namespace {

constexpr int64_t kMostElements = int64_t{8} << 20, kLeastPiece = 16 << 10;

int64_t longest(const std::vector<FlatRanges>& owned) {
    int64_t elements = 0;
    for (const FlatRanges& ranges : owned) elements = std::max(elements, elements_of(ranges));
    return elements;
}

/// Elements that each rank sends at a time; an even number.
int64_t piece_of(const std::vector<FlatRanges>& owned) {
    return std::min((longest(owned) + 1) / 2, std::max(kMostElements / std::ssize(owned), kLeastPiece) / 2) *
           2;
}

}  // namespace

Tensor as_words(const Tensor& x) {
    PASTUR_CHECK(x.nbytes() % size_of(DType::kF32) == 0, "{} as words", describe(x));
    return Tensor(x.bytes(), DType::kF32, {x.nbytes() / size_of(DType::kF32)});
}

int64_t RangeGather::planned_bytes(DType dtype, const std::vector<FlatRanges>& owned) {
    return piece_of(owned) * std::ssize(owned) * size_of(dtype);
}

RangeGather::RangeGather(Context& ctx, DType dtype, std::vector<FlatRanges> owned)
    : dtype_(dtype), owned_(std::move(owned)), buffer_(allocate(ctx, planned_bytes(dtype, owned_))) {
    // Ranks that own less than the longest part send some elements without a meaning.
    fill(ctx, Tensor(buffer_.data(), dtype, {buffer_.bytes() / size_of(dtype)}), 0.0f);
}

void RangeGather::run(Context& ctx, Comm& comm, Tensor flat) {
    const int64_t piece = piece_of(owned_), all = longest(owned_);
    const Tensor pieces(buffer_.data(), dtype_, {piece * std::ssize(owned_)});
    for (int64_t begin = 0; begin < all; begin += piece) {
        const auto for_each_range = [&](int rank, const auto& visit) {
            int64_t at = rank * piece;
            for (const FlatRange& range : part_of_stream(owned_[static_cast<size_t>(rank)], begin, piece)) {
                visit(pieces.slice(0, at, range.count), flat.slice(0, range.begin, range.count));
                at += range.count;
            }
        };
        for_each_range(comm.rank(), [&](const Tensor& sent, const Tensor& mine) { copy(ctx, sent, mine); });
        comm.begin_all_gather(ctx, as_words(pieces));
        comm.finish(ctx);
        for (int rank = 0; rank < comm.size(); ++rank)
            if (rank != comm.rank())
                for_each_range(
                    rank, [&](const Tensor& received, const Tensor& theirs) { copy(ctx, theirs, received); });
    }
}

}  // namespace pastur
