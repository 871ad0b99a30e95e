#pragma once
// Owners of memory: Buffer (one allocation) and Arena (scratch in last-in, first-out order).
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/base/tensor.h"

namespace pastur {

/// Every tensor within a buffer starts at a multiple of this many bytes, which wide loads and TMA require.
inline constexpr int64_t kAlignment = 256;
constexpr int64_t align_up(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Owns one allocation on the host or a device. allocate(Context&, ...) in context.h creates it.
class Buffer {
  public:
    using Release = void (*)(void*) noexcept;
    Buffer() = default;
    Buffer(void* data, int64_t bytes, Release release)
        : data_(static_cast<std::byte*>(data)), bytes_(bytes), release_(release) {}
    Buffer(Buffer&& other) noexcept { swap(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Buffer() {
        if (data_) release_(data_);
    }
    /// A buffer over memory that it does not free.
    static Buffer borrow(std::byte* data, int64_t bytes) {
        return Buffer(data, bytes, [](void*) noexcept {});
    }
    std::byte* data() const { return data_; }
    int64_t bytes() const { return bytes_; }

  private:
    void swap(Buffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        std::swap(release_, other.release_);
    }
    std::byte* data_ = nullptr;
    int64_t bytes_ = 0;
    Release release_ = nullptr;
};

/// LIFO scratch over one buffer. An op opens a Frame and takes tensors, which are released when it closes:
///     Arena::Frame frame(ctx.scratch(), "embedding_backward");
///     Tensor keys = frame.take(DType::kI32, {tokens});
/// On a device the stream orders reuse: the kernels of the next op start after those of this op.
class Arena {
  public:
    Arena() = default;
    explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}
    int64_t capacity() const { return buffer_.bytes(); }
    int64_t high_water() const { return high_water_; }

    class Frame {
      public:
        Frame(Arena& arena, const char* name) : arena_(arena), mark_(arena.used_), name_(name) {}
        ~Frame() { arena_.used_ = mark_; }
        Frame(const Frame&) = delete;
        Frame& operator=(const Frame&) = delete;
        /// An uninitialised tensor. Throws (kNoDevice) with the name of the frame if the arena is too small.
        Tensor take(DType dtype, Shape shape);

      private:
        Arena& arena_;
        int64_t mark_;
        const char* name_;
    };

  private:
    Buffer buffer_;
    int64_t used_ = 0;
    int64_t high_water_ = 0;
};

}  // namespace pastur
