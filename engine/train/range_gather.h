#pragma once
// An all-gather of parts that differ in length between ranks and consist of several ranges.
#include "engine/ranks/comm.h"
#include "engine/train/flat_ranges.h"

namespace pastur {

class RangeGather {
  public:
    /// owned: the ranges of each rank, which together hold every element that is to be shared.
    RangeGather(Context& ctx, std::vector<FlatRanges> owned);
    /// Device memory of the copies that are sent. They are sent in pieces of at most 32 MiB over all ranks,
    /// or 64 KiB per rank if that is more.
    static int64_t planned_bytes(const std::vector<FlatRanges>& owned);

    /// flat f32 [total]: on every rank, the ranges of each rank = that rank's. Moves bits.
    void run(Context& ctx, Comm& comm, Tensor flat);

  private:
    std::vector<FlatRanges> owned_;
    Buffer buffer_;
};

}  // namespace pastur
