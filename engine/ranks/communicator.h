#pragma once
// Ownership of an NCCL communicator, separate from NCCL so it can be tested without a GPU.
#include <string>
#include <thread>
#include <utility>

#include "kernels/base/error.h"

namespace pastur {

/// A non-blocking communicator, finalised and destroyed with the object. If a call on it failed it is aborted
/// instead, before the error is thrown: its kernels would wait forever for the other ranks, and so would
/// anything that waits for the device, such as freeing memory while the exception propagates.
///
/// Library wraps NCCL's functions:
///     Handle (a pointer), Result, kSuccess, kInProgress
///     Result async_error(Handle), Result finalize(Handle), void destroy(Handle), void abort(Handle)
///     std::string explain(Handle, Result): valid before abort()
template <typename Library>
class Communicator {
  public:
    using Handle = typename Library::Handle;
    using Result = typename Library::Result;

    explicit Communicator(const Library& library) : library_(library) {}
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;
    ~Communicator() {
        if (!handle_) return;
        if (is_error(library_.finalize(handle_))) {
            library_.abort(handle_);
            return;
        }
        while (async_error() == Library::kInProgress) std::this_thread::yield();
        library_.destroy(handle_);
    }

    /// Where the library's initialisation puts the handle.
    Handle* address() { return &handle_; }
    Handle get() const { return handle_; }

    /// Waits until the call that returned `result` has started. Throws (kRankLost) if it failed.
    void check(Result result, const char* call) {
        while (result == Library::kInProgress) {
            result = async_error();
            if (result == Library::kInProgress) std::this_thread::yield();
        }
        check_started(result, call);
    }
    /// Does not wait, as within a group of calls. Throws (kRankLost) if the call failed.
    void check_started(Result result, const char* call) {
        if (!is_error(result)) return;
        const std::string explanation = library_.explain(handle_, result);
        if (handle_) library_.abort(std::exchange(handle_, nullptr));
        fail(ExitCode::kRankLost, "{}: {}", call, explanation);
    }
    /// Throws (kRankLost) if an operation in progress has failed.
    void check_progress() { check_started(async_error(), "NCCL"); }

  private:
    static bool is_error(Result result) {
        return result != Library::kSuccess && result != Library::kInProgress;
    }
    Result async_error() const { return library_.async_error(handle_); }

    const Library& library_;
    Handle handle_ = nullptr;
};

}  // namespace pastur
