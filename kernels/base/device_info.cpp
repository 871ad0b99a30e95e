#include "kernels/base/device_info.h"

namespace pastur {

int64_t peak_memory(Context& ctx) {
    return std::visit([](auto& c) { return peak_memory(c); }, ctx);
}

void reset_peak_memory(Context& ctx) {
    std::visit([](auto& c) { reset_peak_memory(c); }, ctx);
}

std::string pci_bus_id(Context& ctx) {
    return std::visit([](auto& c) { return pci_bus_id(c); }, ctx);
}

}  // namespace pastur
