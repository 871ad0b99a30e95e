#pragma once
// Memory is planned, not grown: the model describes every tensor it needs to a Planner, once to measure (no
// memory behind it) and once to carve the tensors out of the one buffer that was allocated.
#include <algorithm>
#include <cstdint>

#include "kernels/memory.h"

namespace pastur {

class Planner {
  public:
    /// Measures only: the tensors handed out must not be touched.
    Planner() = default;
    /// Carves from a buffer of at least the measured bytes(); `measured` is the planner that measured it.
    Planner(const Buffer& buffer, const Planner& measured)
        : base_(buffer.data()), shared_offset_(measured.kept_bytes()) {}

    /// Memory of its own, kept from forward to backward.
    Tensor keep(DType dtype, Shape shape) { return place(base_, kept_, dtype, shape); }

    /// Memory that lives within one call of one component. Every Temporaries starts at the same address: two
    /// of them overlap on purpose, tensors of the same one do not.
    class Temporaries {
      public:
        explicit Temporaries(Planner& planner) : planner_(planner) {}
        Tensor take(DType dtype, Shape shape) {
            std::byte* base = planner_.base_ ? planner_.base_ + planner_.shared_offset_ : nullptr;
            Tensor tensor = planner_.place(base, used_, dtype, shape);
            planner_.shared_ = std::max(planner_.shared_, used_);
            return tensor;
        }

      private:
        Planner& planner_;
        int64_t used_ = 0;
    };

    /// Scratch an op will take from its context; ops run one after the other, so the largest one counts.
    void need_scratch(int64_t bytes) { scratch_ = std::max(scratch_, bytes); }

    int64_t kept_bytes() const { return kept_; }
    int64_t shared_bytes() const { return shared_; }
    int64_t bytes() const { return kept_ + shared_; }
    int64_t scratch_bytes() const { return scratch_; }

  private:
    Tensor place(std::byte* base, int64_t& used, DType dtype, Shape shape) {
        std::byte* data = base ? base + used : nullptr;
        used += align_up(shape.numel() * size_of(dtype));
        return Tensor(data, dtype, shape);
    }
    std::byte* base_ = nullptr;
    int64_t shared_offset_ = 0;
    int64_t kept_ = 0, shared_ = 0, scratch_ = 0;
};

}  // namespace pastur
