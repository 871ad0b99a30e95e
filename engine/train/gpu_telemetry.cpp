#include "engine/train/gpu_telemetry.h"

#include <dlfcn.h>

namespace pastur {
namespace {

constexpr int kSmClock = 1;  // NVML_CLOCK_SM

struct Utilisation {  // nvmlUtilization_t, percent
    unsigned gpu, memory;
};

}  // namespace

/// The functions of NVML's C interface used here; each returns 0 on success.
struct GpuTelemetry::Nvml {
    using Device = void*;

    ~Nvml() {
        if (initialised) shutdown();
        if (library) dlclose(library);
    }
    template <typename Function>
    bool find(Function*& function, const char* name) {
        function = reinterpret_cast<Function*>(dlsym(library, name));
        return function != nullptr;
    }
    bool open(const std::string& path, const std::string& pci_bus_id) {
        library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) return false;
        const bool complete =
            find(init, "nvmlInit_v2") && find(shutdown, "nvmlShutdown") &&
            find(by_bus_id, "nvmlDeviceGetHandleByPciBusId_v2") && find(power, "nvmlDeviceGetPowerUsage") &&
            find(clock, "nvmlDeviceGetClockInfo") && find(utilisation, "nvmlDeviceGetUtilizationRates");
        if (!complete) return false;
        find(max_clock, "nvmlDeviceGetMaxClockInfo");
        find(power_limit, "nvmlDeviceGetEnforcedPowerLimit");
        initialised = init() == 0;
        return initialised && by_bus_id(pci_bus_id.c_str(), &device) == 0;
    }

    void* library = nullptr;
    bool initialised = false;
    Device device = nullptr;
    int (*init)() = nullptr;
    int (*shutdown)() = nullptr;
    int (*by_bus_id)(const char*, Device*) = nullptr;
    int (*power)(Device, unsigned* milliwatts) = nullptr;
    int (*clock)(Device, int type, unsigned* mhz) = nullptr;
    int (*utilisation)(Device, Utilisation*) = nullptr;
    int (*max_clock)(Device, int type, unsigned* mhz) = nullptr;  ///< may be missing
    int (*power_limit)(Device, unsigned* milliwatts) = nullptr;   ///< may be missing
};

GpuTelemetry::GpuTelemetry(const std::string& pci_bus_id, const std::string& library) {
    if (pci_bus_id.empty()) return;
    auto nvml = std::make_unique<Nvml>();
    if (nvml->open(library, pci_bus_id)) nvml_ = std::move(nvml);
}

GpuTelemetry::~GpuTelemetry() = default;
GpuTelemetry::GpuTelemetry(GpuTelemetry&&) noexcept = default;

GpuTelemetry::Reading GpuTelemetry::read() const {
    Reading reading;
    if (!nvml_) return reading;
    unsigned milliwatts = 0, mhz = 0;
    Utilisation percent{};
    if (nvml_->power(nvml_->device, &milliwatts) == 0) reading.power_w = milliwatts / 1e3;
    if (nvml_->clock(nvml_->device, kSmClock, &mhz) == 0) reading.sm_clock_mhz = mhz;
    if (nvml_->utilisation(nvml_->device, &percent) == 0) reading.utilisation = percent.gpu / 1e2;
    return reading;
}

GpuTelemetry::Limits GpuTelemetry::limits() const {
    Limits limits;
    if (!nvml_) return limits;
    unsigned milliwatts = 0, mhz = 0;
    if (nvml_->max_clock && nvml_->max_clock(nvml_->device, kSmClock, &mhz) == 0) limits.sm_clock_mhz = mhz;
    if (nvml_->power_limit && nvml_->power_limit(nvml_->device, &milliwatts) == 0)
        limits.power_w = milliwatts / 1e3;
    return limits;
}

}  // namespace pastur
