#pragma once
// Marks functions that run on the host and, in CUDA sources, on the device.

#if defined(__CUDACC__)
#define PASTUR_HOST_DEVICE __host__ __device__
#else
#define PASTUR_HOST_DEVICE
#endif
