#include "kernels/base/memory.h"

#include <algorithm>

namespace pastur {

Tensor Arena::Frame::take(DType dtype, Shape shape) {
    const int64_t bytes = align_up(shape.numel() * size_of(dtype));
    if (arena_.used_ + bytes > arena_.capacity())
        fail(ExitCode::kNoDevice, "{}: needs {} more bytes of scratch; {} of {} bytes are in use", name_,
             bytes, arena_.used_, arena_.capacity());
    std::byte* data = arena_.buffer_.data() + arena_.used_;
    arena_.used_ += bytes;
    arena_.high_water_ = std::max(arena_.high_water_, arena_.used_);
    return Tensor(data, dtype, shape);
}

}  // namespace pastur
