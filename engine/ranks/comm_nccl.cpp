// Data parallelism between GPUs over NCCL: one rank a GPU.
#include "engine/ranks/comm.h"

#if defined(PASTUR_HAVE_NCCL)
#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <thread>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"
#include "kernels/reduce.h"

namespace pastur {
namespace {

/// NCCL's functions, looked up when a run first needs them: the program also starts where there is no NCCL.
class Nccl {
  public:
    static const Nccl& get() {
        static const Nccl nccl;
        return nccl;
    }
    decltype(&ncclGetUniqueId) get_unique_id;
    decltype(&ncclCommInitRankConfig) init_rank;
    decltype(&ncclCommGetAsyncError) async_error;
    decltype(&ncclCommFinalize) finalize;
    decltype(&ncclCommDestroy) destroy;
    decltype(&ncclCommAbort) abort;
    decltype(&ncclGetErrorString) error_string;
    decltype(&ncclGetLastError) last_error;
    decltype(&ncclAllReduce) all_reduce;
    decltype(&ncclReduceScatter) reduce_scatter;
    decltype(&ncclAllGather) all_gather;
    decltype(&ncclSend) send;
    decltype(&ncclRecv) receive;
    decltype(&ncclGroupStart) group_start;
    decltype(&ncclGroupEnd) group_end;

  private:
    Nccl() {
        void* const library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_GLOBAL);
        if (!library)
            fail(ExitCode::kNoDevice, "NCCL cannot be loaded ({}): install libnccl2, or --comm mpi",
                 dlerror());
        const auto find = [library](auto& function, const char* name) {
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
            if (!function) fail(ExitCode::kNoDevice, "libnccl.so.2 has no {}: it is too old", name);
        };
        find(get_unique_id, "ncclGetUniqueId");
        find(init_rank, "ncclCommInitRankConfig");
        find(async_error, "ncclCommGetAsyncError");
        find(finalize, "ncclCommFinalize");
        find(destroy, "ncclCommDestroy");
        find(abort, "ncclCommAbort");
        find(error_string, "ncclGetErrorString");
        find(last_error, "ncclGetLastError");
        find(all_reduce, "ncclAllReduce");
        find(reduce_scatter, "ncclReduceScatter");
        find(all_gather, "ncclAllGather");
        find(send, "ncclSend");
        find(receive, "ncclRecv");
        find(group_start, "ncclGroupStart");
        find(group_end, "ncclGroupEnd");
    }
};

/// "n1 0000:1b:00.0"
std::string place_of(const CudaHandles& handles) {
    char host[256] = {}, bus[32] = {};
    gethostname(host, sizeof host - 1);
    CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, handles.device));
    return fmt::format("{} {}", host, bus);
}

class NcclComm final : public Comm {
  public:
    NcclComm(World& world, CudaContext& ctx) : Comm(world), nccl_(Nccl::get()) {
        refuse_shared_devices(ctx.handles());
        CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        CUDA_CHECK(cudaEventCreateWithFlags(&before_, cudaEventDisableTiming));
        CUDA_CHECK(cudaEventCreateWithFlags(&after_, cudaEventDisableTiming));
        flag_ = allocate(ctx, size_of(DType::kI32));
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        check(nccl_.init_rank(&comm_, size(), shared_id(), rank(), &config), "ncclCommInitRankConfig");
    }
    ~NcclComm() override {
        if (failed_ || is_error(nccl_.finalize(comm_))) {
            nccl_.abort(comm_);
        } else {
            for (ncclResult_t state = ncclInProgress; state == ncclInProgress;)
                nccl_.async_error(comm_, &state);
            nccl_.destroy(comm_);
        }
        CUDA_CHECK_LOG(cudaEventDestroy(before_));
        CUDA_CHECK_LOG(cudaEventDestroy(after_));
        CUDA_CHECK_LOG(cudaStreamDestroy(stream_));
    }

    void all_reduce_sum(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-reduce");
        const ncclDataType_t type = x.dtype() == DType::kF64 ? ncclDouble : ncclFloat;
        PASTUR_CHECK(x.dtype() == DType::kF64 || x.dtype() == DType::kF32, "all_reduce_sum of {}",
                     describe(x));
        follow(ctx);
        check(nccl_.all_reduce(x.bytes(), x.bytes(), count(x.numel()), type, ncclSum, comm_, stream_),
              "ncclAllReduce");
        wait();
    }
    int all_reduce_max(int value) override {
        const Whereabouts::Collective here(where_, "agreement on the next step");
        CUDA_CHECK(cudaMemcpyAsync(flag_.data(), &value, sizeof value, cudaMemcpyHostToDevice, stream_));
        check(nccl_.all_reduce(flag_.data(), flag_.data(), 1, ncclInt32, ncclMax, comm_, stream_),
              "ncclAllReduce");
        wait();
        CUDA_CHECK(cudaMemcpyAsync(&value, flag_.data(), sizeof value, cudaMemcpyDeviceToHost, stream_));
        CUDA_CHECK(cudaStreamSynchronize(stream_));
        return value;
    }
    void barrier() override { all_reduce_max(0); }

    void begin_reduce_scatter(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "reduce-scatter");
        follow(ctx);
        const int64_t part = x.numel() / size();
        float* data = x.data<float>();
        check(
            nccl_.reduce_scatter(data, data + rank() * part, count(part), ncclFloat, ncclSum, comm_, stream_),
            "ncclReduceScatter");
    }
    void begin_all_gather(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-gather");
        follow(ctx);
        const int64_t part = x.numel() / size();
        float* data = x.data<float>();
        check(nccl_.all_gather(data + rank() * part, data, count(part), ncclFloat, comm_, stream_),
              "ncclAllGather");
    }
    // Not ncclAllReduce: its sums may be of another order than ncclReduceScatter's.
    void begin_all_reduce(Context& ctx, Tensor x) override {
        begin_reduce_scatter(ctx, x);
        begin_all_gather(ctx, x);
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update) override {
        const Whereabouts::Collective here(where_, "ordered sum");
        if (received_.bytes() < x.nbytes()) received_ = allocate(ctx, x.nbytes());
        follow(ctx);
        const int64_t part = total.numel();
        auto* const received = reinterpret_cast<float*>(received_.data());
        check(nccl_.group_start(), "ncclGroupStart");
        for (int peer = 0; peer < size(); ++peer) {
            check_started(
                nccl_.send(x.data<float>() + peer * part, count(part), ncclFloat, peer, comm_, stream_));
            check_started(
                nccl_.receive(received + peer * part, count(part), ncclFloat, peer, comm_, stream_));
        }
        check(nccl_.group_end(), "ncclGroupEnd");
        CUDA_CHECK(cudaEventRecord(after_, stream_));
        CUDA_CHECK(cudaStreamWaitEvent(std::get<CudaContext>(ctx).handles().stream, after_, 0));
        sum_rows(ctx, total, Tensor(received_.data(), DType::kF32, {size(), part}), update);
    }
    void progress(Context&) override {}  // the device does it
    void finish(Context&) override {
        const Whereabouts::Collective here(where_, "end of gradients or weights");
        wait();
    }

  private:
    static size_t count(int64_t elements) { return static_cast<size_t>(elements); }
    static bool is_error(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

    /// What is queued on ctx until now happens first.
    void follow(Context& ctx) {
        CUDA_CHECK(cudaEventRecord(before_, std::get<CudaContext>(ctx).handles().stream));
        CUDA_CHECK(cudaStreamWaitEvent(stream_, before_, 0));
    }
    /// Until all that was begun is done. The host looks on, so that an error of the network ends the run.
    void wait() {
        CUDA_CHECK(cudaEventRecord(after_, stream_));
        for (;;) {
            const cudaError_t state = cudaEventQuery(after_);
            if (state == cudaSuccess) return;
            if (state != cudaErrorNotReady) CUDA_CHECK(state);
            ncclResult_t error = ncclSuccess;
            nccl_.async_error(comm_, &error);
            if (is_error(error)) fail_with(error, "ncclCommGetAsyncError");
            std::this_thread::yield();
        }
    }
    void check_started(ncclResult_t result) {
        if (is_error(result)) fail_with(result, "ncclSend, ncclRecv");
    }
    /// A call of a non-blocking communicator has begun when it returns; the next one must wait for its end.
    void check(ncclResult_t result, const char* call) {
        while (result == ncclInProgress) {
            nccl_.async_error(comm_, &result);
            if (result == ncclInProgress) std::this_thread::yield();
        }
        if (result != ncclSuccess) fail_with(result, call);
    }
    [[noreturn]] void fail_with(ncclResult_t result, const char* call) {
        failed_ = true;
        fail(ExitCode::kRankLost, "{}: {}: {}", call, nccl_.error_string(result), nccl_.last_error(comm_));
    }

    ncclUniqueId shared_id() {
        ncclUniqueId id{};
        if (rank() == 0) check(nccl_.get_unique_id(&id), "ncclGetUniqueId");
        if (size() == 1) return id;
        const std::string mine(id.internal, rank() == 0 ? sizeof id.internal : 0);
        world_.sideband().all_gather(mine).front().copy(id.internal, sizeof id.internal);
        return id;
    }
    void refuse_shared_devices(const CudaHandles& handles) {
        if (size() == 1) return;
        const std::vector<std::string> places = world_.sideband().all_gather(place_of(handles));
        for (size_t i = 0; i < places.size(); ++i)
            for (size_t j = 0; j < i; ++j)
                if (places[i] == places[j])
                    fail(ExitCode::kNoDevice,
                         "ranks {} and {} would share a GPU ({}), which NCCL does not do: start one rank a "
                         "GPU, "
                         "or --comm mpi",
                         j, i, places[i]);
    }

    const Nccl& nccl_;
    ncclComm_t comm_ = nullptr;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t before_ = nullptr, after_ = nullptr;
    Buffer flag_, received_;
    bool failed_ = false;
};

}  // namespace

std::unique_ptr<Comm> make_nccl_comm(World& world, Context& ctx) {
    return std::make_unique<NcclComm>(world, std::get<CudaContext>(ctx));
}

}  // namespace pastur
#else
namespace pastur {

std::unique_ptr<Comm> make_nccl_comm(World&, Context&) {
    return nullptr;
}

}  // namespace pastur
#endif
