#include "kernels/base/context.h"

#include "kernels/base/op_timer.h"

namespace pastur {

Device parse_device(const std::string& name) {
    if (name == "auto") return Device::kAuto;
    if (name == "cpu") return Device::kCpu;
    if (name == "cuda") return Device::kCuda;
    fail(ExitCode::kUsage, "--device {}: expected auto, cpu or cuda", name);
}

Context make_context(Device device, int index) {
#if defined(PASTUR_HAVE_CUDA)
    if (device == Device::kCuda || (device == Device::kAuto && cuda_device_count() > 0))
        return CudaContext(index);
#else
    if (device == Device::kCuda)
        fail(ExitCode::kNoDevice,
             "--device cuda: this pastur was built without CUDA; configure the build with PASTUR_CUDA=ON");
    (void)index;
#endif
    return CpuContext();
}

#if !defined(PASTUR_HAVE_CUDA)
int cuda_device_count() {
    return 0;
}
#endif

bool is_cuda(const Context& ctx) {
    return ctx.index() == 1;
}

std::string device_name(Context& ctx) {
    return std::visit([](auto& c) { return device_name(c); }, ctx);
}

MemoryInfo memory_info(Context& ctx) {
    return std::visit([](auto& c) { return memory_info(c); }, ctx);
}

void set_op_timer(Context& ctx, OpTimer* timer) {
    std::visit([&](auto& c) { c.op_timer = timer; }, ctx);
}

Buffer allocate(Context& ctx, int64_t bytes) {
    return std::visit([&](auto& c) { return allocate(c, bytes); }, ctx);
}

Buffer allocate_host(Context& ctx, int64_t bytes) {
    return std::visit([&](auto& c) { return allocate_host(c, bytes); }, ctx);
}

void reserve_scratch(Context& ctx, int64_t bytes) {
    std::visit([&](auto& c) { c.reserve_scratch(bytes); }, ctx);
}

void synchronize(Context& ctx) {
    std::visit([](auto& c) { synchronize(c); }, ctx);
}

void copy(Context& ctx, Tensor dst, ConstTensor src) {
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(dst, src));
    std::visit([&](auto& c) { copy(c, dst, src); }, ctx);
}

void upload(Context& ctx, Tensor dst, ConstTensor src) {
    const OpScope scope(ctx, OpFamily::kTransfer, 0, bytes_of(src));
    std::visit([&](auto& c) { upload(c, dst, src); }, ctx);
}

void download(Context& ctx, Tensor dst, ConstTensor src) {
    const OpScope scope(ctx, OpFamily::kTransfer, 0, bytes_of(src));
    std::visit([&](auto& c) { download(c, dst, src); }, ctx);
}

void begin_download(Context& ctx, Tensor dst, ConstTensor src) {
    const OpScope scope(ctx, OpFamily::kTransfer, 0, bytes_of(src));
    std::visit([&](auto& c) { begin_download(c, dst, src); }, ctx);
}

}  // namespace pastur
