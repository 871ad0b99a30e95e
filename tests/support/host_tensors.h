#pragma once
// Host tensors for tests of the checks of an op's arguments.
#include <array>

#include "kernels/base/memory.h"

namespace pastur::test {

/// Makes tensors in host memory that all share one array, for calls whose numbers do not matter:
///     HostTensors tensor;
///     EXPECT_THROW(rope(ctx, tensor({1, 3, 2, 8}), ...), Error);
class HostTensors {
  public:
    Tensor operator()(Shape shape, DType dtype = DType::kF32) {
        PASTUR_CHECK(shape.numel() * size_of(dtype) <= std::ssize(storage_), "HostTensors: {}",
                     to_string(shape));
        return Tensor(storage_.data(), dtype, shape);
    }

  private:
    alignas(kAlignment) std::array<std::byte, 1 << 14> storage_{};
};

}  // namespace pastur::test
