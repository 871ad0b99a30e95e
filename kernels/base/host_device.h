#pragma once
// Functions that the host and, in sources for CUDA, devices run alike.

#if defined(__CUDACC__)
#define PASTUR_HOST_DEVICE __host__ __device__
#else
#define PASTUR_HOST_DEVICE
#endif
