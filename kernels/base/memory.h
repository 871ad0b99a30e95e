#pragma once
// Who owns memory: Buffer (one allocation) and Arena (scratch handed out last-in, first-out).
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "kernels/base/tensor.h"

namespace pastur {

/// Every tensor carved out of a buffer starts on such a boundary: wide loads and TMA need it.
inline constexpr int64_t kAlignment = 256;
constexpr int64_t align_up(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Owns one allocation on a host or a device. Made by allocate(Context&, ...) in context.h.
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
    /// Over memory that somebody else keeps.
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

/// LIFO scratch over one buffer. Ops open a Frame, take tensors, and give everything back when it closes:
///     Arena::Frame frame(ctx.scratch(), "embedding_backward");
///     Tensor keys = frame.take(DType::kI32, {tokens});
/// The stream orders reuse on a device: the next op's kernels start after this op's.
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
        /// Uninitialised. Throws (kNoDevice) naming the frame when the arena is too small.
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
