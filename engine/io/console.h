#pragma once
// Lines for people that never hold training up.
#include <memory>
#include <string>
#include <string_view>

namespace pastur {

/// Output to a terminal, a pipe or a file. A file takes every byte at once. Where somebody has to read, a
/// thread writes what waits in a queue; once nobody has read for so long that the queue is full, whole texts
/// are left out, and their number is said when there is room again. (mpirun reads no more of its ranks once
/// it was told to end: a rank that waited for it would never come to its checkpoint.)
class Console {
  public:
    explicit Console(int descriptor);
    /// As flush().
    ~Console();
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;

    int descriptor() const { return descriptor_; }
    void write(std::string_view text);
    /// Waits while somebody reads, at most a second for each piece. False: not everything was written.
    bool flush();
    /// The errno of the first write that failed; 0: none has.
    int error() const;

    /// Of this process: standard output and standard error; never destroyed.
    static Console& out();
    static Console& err();

    /// What may wait in the queue.
    static constexpr size_t kQueueBytes = size_t{1} << 20;

  private:
    struct Queue;
    int descriptor_;
    bool waits_;  ///< for somebody to read: not a file
    std::shared_ptr<Queue> queue_;
};

}  // namespace pastur
