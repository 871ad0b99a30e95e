#pragma once
// Aligned pieces of one buffer.
#include "kernels/base/memory.h"

namespace pastur {

/// Takes aligned pieces of a buffer one after another; without a buffer it only counts their bytes.
class Carver {
  public:
    explicit Carver(std::byte* base = nullptr) : base_(base) {}
    template <typename T>
    T* take(int64_t count) {
        std::byte* data = base_ ? base_ + used_ : nullptr;
        used_ += align_up(count * static_cast<int64_t>(sizeof(T)));
        return reinterpret_cast<T*>(data);
    }
    int64_t used() const { return used_; }

  private:
    std::byte* base_;
    int64_t used_ = 0;
};

}  // namespace pastur
