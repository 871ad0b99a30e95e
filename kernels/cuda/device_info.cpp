#include "kernels/base/device_info.h"

#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/handles.h"

namespace pastur {

int64_t peak_memory(CudaContext&) {
    return device_memory().peak();
}

void reset_peak_memory(CudaContext&) {
    device_memory().reset_peak();
}

std::string pci_bus_id(CudaContext& ctx) {
    const cudaDeviceProp& properties = ctx.handles().properties;
    return fmt::format("{:08x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                       properties.pciDeviceID);
}

}  // namespace pastur
