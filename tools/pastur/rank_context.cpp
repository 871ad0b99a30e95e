#include "tools/pastur/rank_context.h"

namespace pastur {

Context rank_context(const std::string& device, const World& world) {
    const Device parsed = parse_device(device);
    const int devices = parsed == Device::kCpu ? 0 : cuda_device_count();
    return make_context(parsed, devices > 0 ? world.local_rank() % devices : 0);
}

}  // namespace pastur
