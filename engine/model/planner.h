#pragma once
// Memory is planned, not grown: the model describes every tensor it needs to a Planner, once to measure
// (without memory) and once to carve the tensors out of the one buffer that was allocated.
#include <algorithm>
#include <cstdint>

#include "kernels/base/memory.h"
#include "kernels/fp8_rows.h"

namespace pastur {

class Planner {
  public:
    /// Measures only: the tensors that it returns have no memory.
    Planner() = default;
    /// Carves from a buffer of at least the measured bytes(); `measured` is the planner that measured it.
    Planner(const Buffer& buffer, const Planner& measured)
        : base_(buffer.data()),
          turns_offset_(measured.kept_),
          shared_offset_(measured.kept_ + measured.turns_) {}

    /// Memory of its own, kept from forward to backward.
    Tensor keep(DType dtype, Shape shape) {
        if (!turn_) return place(base_, kept_, dtype, shape);
        Tensor tensor = place(at(turns_offset_), *turn_, dtype, shape);
        turns_ = std::max(turns_, *turn_);
        return tensor;
    }

    Fp8Rows keep_fp8(int64_t rows, int64_t width) {
        return {keep(DType::kF8E4M3, {rows, width}), keep(DType::kF32, {rows})};
    }

    /// While a Turn exists, keep() returns memory that all Turns share: it starts at the same address in each
    /// of them. What one component writes there stays until another writes.
    class Turn {
      public:
        explicit Turn(Planner& planner) : planner_(planner) { planner_.turn_ = &used_; }
        ~Turn() { planner_.turn_ = nullptr; }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

      private:
        Planner& planner_;
        int64_t used_ = 0;
    };

    /// Memory for the length of one call of one component. Every Temporaries starts at the same address:
    /// tensors of two of them overlap, tensors of one do not.
    class Temporaries {
      public:
        explicit Temporaries(Planner& planner) : planner_(planner) {}
        Tensor take(DType dtype, Shape shape) {
            Tensor tensor = planner_.place(planner_.at(planner_.shared_offset_), used_, dtype, shape);
            planner_.shared_ = std::max(planner_.shared_, used_);
            return tensor;
        }
        Fp8Rows take_fp8(int64_t rows, int64_t width) {
            return {take(DType::kF8E4M3, {rows, width}), take(DType::kF32, {rows})};
        }

      private:
        Planner& planner_;
        int64_t used_ = 0;
    };

    /// Scratch that an op will take from its context. Ops run one after the other, so the largest counts.
    void need_scratch(int64_t bytes) { scratch_ = std::max(scratch_, bytes); }

    int64_t kept_bytes() const { return kept_ + turns_; }
    int64_t shared_bytes() const { return shared_; }
    int64_t bytes() const { return kept_ + turns_ + shared_; }
    int64_t scratch_bytes() const { return scratch_; }

  private:
    std::byte* at(int64_t offset) const { return base_ ? base_ + offset : nullptr; }
    Tensor place(std::byte* base, int64_t& used, DType dtype, Shape shape) {
        std::byte* data = base ? base + used : nullptr;
        used += align_up(shape.numel() * size_of(dtype));
        return Tensor(data, dtype, shape);
    }
    std::byte* base_ = nullptr;
    int64_t turns_offset_ = 0, shared_offset_ = 0;
    int64_t kept_ = 0, turns_ = 0, shared_ = 0, scratch_ = 0;
    int64_t* turn_ = nullptr;  ///< bytes used in the current Turn
};

}  // namespace pastur
