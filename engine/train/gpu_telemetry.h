#pragma once
// Power, clock and utilisation of a GPU, from NVML if it is installed (loaded at run time).
#include <memory>
#include <optional>
#include <string>

namespace pastur {

class GpuTelemetry {
  public:
    /// pci_bus_id: the GPU's PCI address as CUDA reports it. Readings are empty if NVML (`library`) or the
    /// GPU is missing.
    explicit GpuTelemetry(const std::string& pci_bus_id, const std::string& library = "libnvidia-ml.so.1");
    ~GpuTelemetry();
    GpuTelemetry(GpuTelemetry&&) noexcept;

    /// A value is absent if the driver does not report it.
    struct Reading {
        std::optional<double> power_w;       ///< of the board
        std::optional<double> sm_clock_mhz;  ///< of the multiprocessors
        std::optional<double> utilisation;  ///< share of the last sample period with a kernel running, 0 to 1
    };
    Reading read() const;

    /// What the board allows, which other GPUs of the same model may not. A value is absent as in Reading.
    struct Limits {
        std::optional<double> sm_clock_mhz;
        std::optional<double> power_w;
    };
    Limits limits() const;

  private:
    struct Nvml;
    std::unique_ptr<Nvml> nvml_;  ///< null: no readings
};

}  // namespace pastur
