#pragma once
// How much device memory this process has allocated.
#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace pastur {

class DeviceMemory {
  public:
    void add(const void* allocation, int64_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        sizes_[allocation] = bytes;
        held_ += bytes;
        peak_ = std::max(peak_, held_);
    }
    void remove(const void* allocation) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto size = sizes_.find(allocation);
        if (size == sizes_.end()) return;
        held_ -= size->second;
        sizes_.erase(size);
    }
    /// Most bytes held at once since the start, or since reset_peak().
    int64_t peak() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return peak_;
    }
    void reset_peak() {
        const std::lock_guard<std::mutex> lock(mutex_);
        peak_ = held_;
    }

  private:
    mutable std::mutex mutex_;
    std::unordered_map<const void*, int64_t> sizes_;  ///< of the present allocations
    int64_t held_ = 0, peak_ = 0;
};

/// The process's; never destroyed, because buffers of static lifetime outlive any order of destruction.
inline DeviceMemory& device_memory() {
    static auto* const kMemory = new DeviceMemory;
    return *kMemory;
}

}  // namespace pastur
