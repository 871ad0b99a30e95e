// Readings of a GPU by NVML, from a stand-in library.
#include "engine/train/gpu_telemetry.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace pastur::test {
namespace {

std::string library(const char* name) {
    return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
}

TEST(GpuTelemetryTest, ReadsWhatTheDriverSays) {
    const GpuTelemetry gpu("00000000:1b:00.0", library("libpastur_fake_nvml.so"));
    const GpuTelemetry::Reading reading = gpu.read();
    EXPECT_EQ(reading.power_w, 412.5);
    EXPECT_EQ(reading.sm_clock_mhz, 1755.0);
    EXPECT_EQ(reading.utilisation, std::nullopt) << "the driver does not report it";
    EXPECT_EQ(gpu.limits().sm_clock_mhz, 1980.0);
    EXPECT_EQ(gpu.limits().power_w, 700.0);
}

TEST(GpuTelemetryTest, IsEmptyWithoutAGpuOrALibrary) {
    const auto empty = [](const std::string& pci_bus_id, const std::string& path) {
        const GpuTelemetry::Reading reading = GpuTelemetry(pci_bus_id, path).read();
        const GpuTelemetry::Limits limits = GpuTelemetry(pci_bus_id, path).limits();
        return !reading.power_w && !reading.sm_clock_mhz && !reading.utilisation && !limits.power_w &&
               !limits.sm_clock_mhz;
    };
    EXPECT_TRUE(empty("", library("libpastur_fake_nvml.so")));
    EXPECT_TRUE(empty("00000000:2c:00.0", library("libpastur_fake_nvml.so"))) << "another GPU";
    EXPECT_TRUE(empty("00000000:1b:00.0", library("nowhere.so")));
    EXPECT_TRUE(empty("00000000:1b:00.0", library("libpastur_faults.so"))) << "a library that is not NVML";
}

}  // namespace
}  // namespace pastur::test
