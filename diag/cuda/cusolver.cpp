#include "diag/cuda/cusolver.h"

#include <cstdio>

namespace pastur {

void check_cusolver(cusolverStatus_t status, const char* call) {
    if (status == CUSOLVER_STATUS_SUCCESS) return;
    fail(status == CUSOLVER_STATUS_ALLOC_FAILED ? ExitCode::kNoDevice : ExitCode::kOther,
         "{}: cuSOLVER status {}", call, static_cast<int>(status));
}

Cusolver::Cusolver(cudaStream_t stream) : stream_(stream) {
    CUSOLVER_CHECK(cusolverDnCreate(&handle_));
    CUSOLVER_CHECK(cusolverDnSetStream(handle_, stream));
    CUSOLVER_CHECK(cusolverDnSetDeterministicMode(handle_, CUSOLVER_DETERMINISTIC_RESULTS));
    CUSOLVER_CHECK(cusolverDnCreateParams(&params_));
}

Cusolver::~Cusolver() {
    bool closed = true;
    if (params_) closed &= cusolverDnDestroyParams(params_) == CUSOLVER_STATUS_SUCCESS;
    if (handle_) closed &= cusolverDnDestroy(handle_) == CUSOLVER_STATUS_SUCCESS;
    if (!closed) std::fprintf(stderr, "cuSOLVER could not be closed\n");
}

}  // namespace pastur
