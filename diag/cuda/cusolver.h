#pragma once
// cuSOLVER on one stream, and the check of its calls.
#include <cusolverDn.h>

#include <vector>

#include "kernels/base/error.h"

namespace pastur {

/// Throws cuSOLVER's status of a call that failed: kNoDevice where memory ran out, otherwise kOther.
void check_cusolver(cusolverStatus_t status, const char* call);
#define CUSOLVER_CHECK(call) ::pastur::check_cusolver((call), #call)

/// A handle whose results are deterministic. Throws (kNoDevice, kOther).
class Cusolver {
  public:
    /// `stream` belongs to the current device.
    explicit Cusolver(cudaStream_t stream);
    ~Cusolver();
    Cusolver(const Cusolver&) = delete;
    Cusolver& operator=(const Cusolver&) = delete;

    cusolverDnHandle_t handle() const { return handle_; }
    cusolverDnParams_t params() const { return params_; }
    cudaStream_t stream() const { return stream_; }
    /// The host workspace of calls, kept between them; from now on at least `bytes` long.
    std::vector<std::byte>& host_workspace(size_t bytes = 0) {
        if (bytes > host_workspace_.size()) host_workspace_.resize(bytes);
        return host_workspace_;
    }

  private:
    cudaStream_t stream_;
    cusolverDnHandle_t handle_ = nullptr;
    cusolverDnParams_t params_ = nullptr;
    std::vector<std::byte> host_workspace_;
};

}  // namespace pastur
