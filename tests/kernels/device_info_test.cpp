// What a process holds of its machine.
#include "kernels/base/device_info.h"

#include <cstring>

#include "kernels/cuda/device_memory.h"
#include "tests/support/harness.h"

namespace pastur::test {
namespace {

constexpr int64_t kBytes = int64_t{96} << 20;

TEST(DeviceInfo, PeakMemoryRisesWithAnAllocationAndStays) {
    for (const Target& target : f32_targets()) {
        Context& ctx = context(target.device);
        const int64_t before = peak_memory(ctx);
        EXPECT_GT(before, 0);
        for (int i = 0; i < 2; ++i) {
            // Larger than anything the process has freed so far could hide.
            const Buffer buffer = allocate(ctx, before + kBytes);
            if (!is_cuda(ctx)) std::memset(buffer.data(), 1, static_cast<size_t>(buffer.bytes()));
        }
        const int64_t peak = peak_memory(ctx);
        EXPECT_GE(peak, before + kBytes);
        EXPECT_LT(peak, 2 * before + 2 * kBytes) << "held one after the other, not together";
        EXPECT_EQ(pci_bus_id(ctx).empty(), !is_cuda(ctx));
        reset_peak_memory(ctx);
        EXPECT_LT(peak_memory(ctx), before + kBytes / 2) << "both are freed";
    }
}

TEST(DeviceInfo, CountsDeviceMemoryByAllocation) {
    DeviceMemory memory;
    int first = 0, second = 0;
    memory.add(&first, 100);
    memory.add(&second, 50);
    memory.remove(&first);
    memory.remove(&first);  // counted once
    memory.add(&first, 60);
    EXPECT_EQ(memory.peak(), 150);
    memory.add(&memory, 60);
    EXPECT_EQ(memory.peak(), 170);
    memory.remove(&second);
    memory.reset_peak();
    EXPECT_EQ(memory.peak(), 120);
}

}  // namespace
}  // namespace pastur::test
