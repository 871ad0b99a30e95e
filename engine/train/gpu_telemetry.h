#pragma once
// Power, clock and utilisation of a GPU by NVML, which is loaded at run time where it is installed.
#include <memory>
#include <optional>
#include <string>

namespace pastur {

class GpuTelemetry {
  public:
    /// pci_bus_id as CUDA names the GPU. Without NVML (`library`) or the GPU in it, readings are empty.
    explicit GpuTelemetry(const std::string& pci_bus_id, const std::string& library = "libnvidia-ml.so.1");
    ~GpuTelemetry();
    GpuTelemetry(GpuTelemetry&&) noexcept;

    /// Each absent where the driver does not say.
    struct Reading {
        std::optional<double> power_w;       ///< of the board
        std::optional<double> sm_clock_mhz;  ///< of the multiprocessors
        std::optional<double> utilisation;  ///< share of the last sample period with a kernel running, 0 to 1
    };
    Reading read() const;

  private:
    struct Nvml;
    std::unique_ptr<Nvml> nvml_;  ///< null: no readings
};

}  // namespace pastur
