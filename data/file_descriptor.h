#pragma once
#include <unistd.h>

#include <utility>

namespace pastur {

/// Owns a POSIX descriptor (of a file, a folder, a socket) and closes it. Empty: -1.
class FileDescriptor {
  public:
    FileDescriptor() = default;
    explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
    ~FileDescriptor() { reset(); }
    FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(other.release()) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }

    explicit operator bool() const { return descriptor_ >= 0; }
    int get() const { return descriptor_; }
    /// Gives up the descriptor without closing it.
    [[nodiscard]] int release() { return std::exchange(descriptor_, -1); }
    /// Closes the descriptor, if there is one, and owns `descriptor` from now on.
    void reset(int descriptor = -1) {
        if (descriptor_ >= 0) ::close(descriptor_);
        descriptor_ = descriptor;
    }

  private:
    int descriptor_ = -1;
};

}  // namespace pastur
