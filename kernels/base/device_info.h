#pragma once
// What this process holds of the machine a context runs on.
#include <cstdint>
#include <string>

#include "kernels/base/context.h"

namespace pastur {

/// Most memory in bytes that this process has held at once so far: on CUDA device memory of allocate() and of the
/// contexts themselves, on all its devices; on the CPU resident host memory (VmHWM), however it was allocated.
int64_t peak_memory(Context& ctx);
/// Makes what the process holds now the peak, from which later calls of peak_memory() count.
void reset_peak_memory(Context& ctx);

/// PCI address of ctx's GPU, "00000000:1b:00.0"; empty on the CPU.
std::string pci_bus_id(Context& ctx);

int64_t peak_memory(CpuContext& ctx);
void reset_peak_memory(CpuContext& ctx);
std::string pci_bus_id(CpuContext& ctx);

#if defined(PASTUR_HAVE_CUDA)
int64_t peak_memory(CudaContext& ctx);
void reset_peak_memory(CudaContext& ctx);
std::string pci_bus_id(CudaContext& ctx);
#endif

}  // namespace pastur
