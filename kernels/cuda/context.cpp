#include "kernels/base/context.h"

#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/linear/matmul_plan.h"
#include "kernels/cuda/upload_stage.h"

namespace pastur {

namespace {

/// Major compute capability of Ampere, the first architecture with bf16 arithmetic and cp.async.
constexpr int kOldestMajor = 8;

/// NVIDIA recommends 32 MiB per stream on Hopper. Twice that lets every weight gradient of a 130m model be
/// split along the tokens (one partial sum of a 4096 x 768 gradient in fp32 takes 12.6 MB).
constexpr int64_t kBlasWorkspaceBytes = int64_t{64} << 20;

constexpr int64_t kTileCounterBytes = 2 * sizeof(int);
constexpr int64_t kColumnMaximaBytes = (kQuantizedColumns + kQuantizedChunks) * sizeof(int);

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

/// CUDA ordinals of the devices whose architecture is supported. If there is none, `reason` receives a text.
std::vector<int> usable_devices(std::string* reason = nullptr) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();  // clears it: a machine without a driver is not an error
        if (reason) *reason = cudaGetErrorString(error);
        return {};
    }
    std::vector<int> usable;
    for (int device = 0; device < count; ++device) {
        int major = 0;
        CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
        if (major >= kOldestMajor) usable.push_back(device);
    }
    if (reason)
        *reason = fmt::format("none of {} devices has compute capability {}.0 or later", count, kOldestMajor);
    return usable;
}

int device_ordinal(int index) {
    std::string reason;
    const std::vector<int> usable = usable_devices(&reason);
    if (usable.empty()) fail(ExitCode::kNoDevice, "no usable CUDA device: {}", reason);
    if (index < 0 || index >= static_cast<int>(usable.size()))
        fail(ExitCode::kNoDevice, "CUDA device {}: this process can use {} devices, counted from 0", index,
             usable.size());
    return usable[static_cast<size_t>(index)];
}

Buffer device_buffer(int64_t bytes) {
    void* memory = nullptr;
    CUDA_CHECK(cudaMalloc(&memory, static_cast<size_t>(bytes)));
    device_memory().add(memory, bytes);
    return Buffer(memory, bytes, CudaHandles::release_device_memory);
}

}  // namespace

CudaHandles::CudaHandles(int ordinal, Closed) : device(ordinal) {}

CudaHandles::CudaHandles(int ordinal) : CudaHandles(ordinal, Closed{}) {
    // The delegated constructor has completed the object, so the destructor runs even if a line below throws.
    CUDA_CHECK(cudaSetDevice(device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUBLAS_CHECK(cublasLtCreate(&blas));
    blas_workspace = device_buffer(kBlasWorkspaceBytes);
    tile_counter = device_buffer(kTileCounterBytes);
    CUDA_CHECK(cudaMemsetAsync(tile_counter.data(), 0, kTileCounterBytes, stream));
    column_maxima = device_buffer(kColumnMaximaBytes);
    upload_stage = std::make_unique<UploadStage>();
    matmul_plans = std::make_unique<MatmulPlans>();
}

CudaHandles::~CudaHandles() {
    CUDA_CHECK_LOG(cudaSetDevice(device));
    if (blas) CUBLAS_CHECK_LOG(cublasLtDestroy(blas));
    if (stream) CUDA_CHECK_LOG(cudaStreamDestroy(stream));
}

void CudaHandles::release_device_memory(void* pointer) noexcept {
    device_memory().remove(pointer);  // before the address can be handed out again
    CUDA_CHECK_LOG(cudaFree(pointer));
}

CudaContext::CudaContext(int device) : handles_(std::make_unique<CudaHandles>(device_ordinal(device))) {}
CudaContext::~CudaContext() = default;
CudaContext::CudaContext(CudaContext&&) noexcept = default;
CudaContext& CudaContext::operator=(CudaContext&&) noexcept = default;

void CudaContext::reserve_scratch(int64_t bytes) {
    synchronize(*this);
    scratch_ = Arena();  // frees the old arena first, because both may not fit
    scratch_ = Arena(allocate(*this, bytes));
}

int cuda_device_count() {
    return static_cast<int>(usable_devices().size());
}

std::string device_name(CudaContext& ctx) {
    return ctx.handles().properties.name;
}

MemoryInfo memory_info(CudaContext& ctx) {
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    return {static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

Buffer allocate(CudaContext& ctx, int64_t bytes) {
    if (bytes == 0) return {};
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        const MemoryInfo memory = memory_info(ctx);
        fail(ExitCode::kNoDevice,
             "out of memory on {}: {} bytes ({:.2f} GiB) requested, {:.2f} of {:.2f} GiB are free",
             device_name(ctx), bytes, static_cast<double>(bytes) / kGiB,
             static_cast<double>(memory.free_bytes) / kGiB, static_cast<double>(memory.total_bytes) / kGiB);
    }
    CUDA_CHECK(error);
    device_memory().add(data, bytes);
    return Buffer(data, bytes, CudaHandles::release_device_memory);
}

Buffer allocate_host(CudaContext& ctx, int64_t bytes) {
    if (bytes == 0 || bytes > host_memory_info().free_bytes / 2) return {};
    CUDA_CHECK(cudaSetDevice(ctx.handles().device));
    void* data = nullptr;
    const cudaError_t error = cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        return {};
    }
    CUDA_CHECK(error);
    return Buffer(data, bytes, [](void* pointer) noexcept { CUDA_CHECK_LOG(cudaFreeHost(pointer)); });
}

void synchronize(CudaContext& ctx) {
    CUDA_CHECK(cudaStreamSynchronize(ctx.handles().stream));
}

namespace {
void copy_rows(CudaContext& ctx, Tensor dst, ConstTensor src, const RowCopy& copy, cudaMemcpyKind kind) {
    const auto size = [](int64_t bytes) { return static_cast<size_t>(bytes); };
    CUDA_CHECK(cudaMemcpy2DAsync(dst.bytes(), size(copy.dst_pitch), src.bytes(), size(copy.src_pitch),
                                 size(copy.row_bytes), size(copy.rows), kind, ctx.handles().stream));
}
}  // namespace

void copy(CudaContext& ctx, Tensor dst, ConstTensor src) {
    const RowCopy rows = row_copy("copy", dst, src);
    if (dst.bytes() == src.bytes()) return;
    if (rows.rows == 1) {
        CUDA_CHECK(cudaMemcpyAsync(dst.bytes(), src.bytes(), static_cast<size_t>(src.nbytes()),
                                   cudaMemcpyDeviceToDevice, ctx.handles().stream));
    } else {
        copy_rows(ctx, dst, src, rows, cudaMemcpyDeviceToDevice);
    }
}

void upload(CudaContext& ctx, Tensor dst, ConstTensor src) {
    const RowCopy rows = row_copy("upload", dst, src);
    if (rows.rows == 1) {
        ctx.handles().upload_stage->copy(ctx.handles().stream, dst.bytes(), src.bytes(), src.nbytes());
    } else {
        copy_rows(ctx, dst, src, rows, cudaMemcpyHostToDevice);
        synchronize(ctx);
    }
}

void begin_download(CudaContext& ctx, Tensor dst, ConstTensor src) {
    const RowCopy rows = row_copy("download", dst, src);
    if (rows.rows == 1)
        CUDA_CHECK(cudaMemcpyAsync(dst.bytes(), src.bytes(), static_cast<size_t>(src.nbytes()),
                                   cudaMemcpyDeviceToHost, ctx.handles().stream));
    else
        copy_rows(ctx, dst, src, rows, cudaMemcpyDeviceToHost);
}

void download(CudaContext& ctx, Tensor dst, ConstTensor src) {
    begin_download(ctx, dst, src);
    synchronize(ctx);
}

}  // namespace pastur
