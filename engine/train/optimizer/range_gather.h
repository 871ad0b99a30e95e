#pragma once
// An all-gather of parts that differ in length between ranks and consist of several ranges.
#include "engine/ranks/comm.h"
#include "engine/train/optimizer/flat_ranges.h"

namespace pastur {

/// The bits of x [n], f32 or bf16, as f32 [n size / 4], for exchanges that move bits; n is even if x is bf16.
Tensor as_words(const Tensor& x);

class RangeGather {
  public:
    /// owned: the ranges of each rank, which together hold every element that is to be shared.
    RangeGather(Context& ctx, DType dtype, std::vector<FlatRanges> owned);
    /// Device memory of the copies that are sent. They are sent in pieces of at most 32 MiB over all ranks,
    /// or 64 KiB per rank if that is more.
    static int64_t planned_bytes(DType dtype, const std::vector<FlatRanges>& owned);

    /// flat [total], of this dtype: on every rank, the ranges of each rank = that rank's. Moves bits.
    void run(Context& ctx, Comm& comm, Tensor flat);

  private:
    DType dtype_;
    std::vector<FlatRanges> owned_;
    Buffer buffer_;
};

}  // namespace pastur
