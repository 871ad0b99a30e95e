// NVML's interface with one GPU at a known address, for tests of what is read from it.
#include <cstring>

namespace {
int device_of_test = 0;
}

extern "C" {
int nvmlInit_v2() {
    return 0;
}
int nvmlShutdown() {
    return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* pci_bus_id, void** device) {
    *device = &device_of_test;
    return std::strcmp(pci_bus_id, "00000000:1b:00.0") == 0 ? 0 : 6;  // NVML_ERROR_NOT_FOUND
}
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
    *milliwatts = 412500;
    return 0;
}
int nvmlDeviceGetClockInfo(void*, int type, unsigned* mhz) {
    *mhz = 1755;
    return type == 1 ? 0 : 2;  // NVML_ERROR_INVALID_ARGUMENT
}
int nvmlDeviceGetUtilizationRates(void*, unsigned*) {
    return 3;  // NVML_ERROR_NOT_SUPPORTED
}
int nvmlDeviceGetMaxClockInfo(void*, int type, unsigned* mhz) {
    *mhz = 1980;
    return type == 1 ? 0 : 2;  // NVML_ERROR_INVALID_ARGUMENT
}
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* milliwatts) {
    *milliwatts = 700000;
    return 0;
}
}
