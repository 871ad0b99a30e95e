// Data parallelism between GPUs over NCCL: one rank per GPU.
#include "engine/ranks/comm.h"

#if defined(PASTUR_HAVE_NCCL)
#include <dlfcn.h>
#include <nccl.h>

#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

#include "engine/io/host_name.h"
#include "engine/ranks/communicator.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"
#include "kernels/fill.h"
#include "kernels/reduce.h"

namespace pastur {
namespace {

/// NCCL's functions, looked up when a run first needs them, so the program also starts without NCCL.
class Nccl {
  public:
    using Handle = ncclComm_t;
    using Result = ncclResult_t;
    static constexpr Result kSuccess = ncclSuccess, kInProgress = ncclInProgress;

    static const Nccl& get() {
        static const Nccl nccl;
        return nccl;
    }
    decltype(&ncclGetUniqueId) get_unique_id;
    decltype(&ncclCommInitRankConfig) init_rank;
    decltype(&ncclAllReduce) all_reduce;
    decltype(&ncclReduceScatter) reduce_scatter;
    decltype(&ncclAllGather) all_gather;
    decltype(&ncclSend) send;
    decltype(&ncclRecv) receive;
    decltype(&ncclGroupStart) group_start;
    decltype(&ncclGroupEnd) group_end;

    Result async_error(Handle handle) const {
        Result state = ncclSuccess;
        const Result asked = get_async_error_(handle, &state);
        return asked == ncclSuccess ? state : asked;
    }
    Result finalize(Handle handle) const { return finalize_(handle); }
    void destroy(Handle handle) const { destroy_(handle); }
    void abort(Handle handle) const { abort_(handle); }
    std::string explain(Handle handle, Result result) const {
        return fmt::format("{}: {}", error_string_(result), last_error_(handle));
    }

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
        find(get_async_error_, "ncclCommGetAsyncError");
        find(finalize_, "ncclCommFinalize");
        find(destroy_, "ncclCommDestroy");
        find(abort_, "ncclCommAbort");
        find(error_string_, "ncclGetErrorString");
        find(last_error_, "ncclGetLastError");
        find(all_reduce, "ncclAllReduce");
        find(reduce_scatter, "ncclReduceScatter");
        find(all_gather, "ncclAllGather");
        find(send, "ncclSend");
        find(receive, "ncclRecv");
        find(group_start, "ncclGroupStart");
        find(group_end, "ncclGroupEnd");
    }
    decltype(&ncclCommGetAsyncError) get_async_error_;
    decltype(&ncclCommFinalize) finalize_;
    decltype(&ncclCommDestroy) destroy_;
    decltype(&ncclCommAbort) abort_;
    decltype(&ncclGetErrorString) error_string_;
    decltype(&ncclGetLastError) last_error_;
};

struct DestroyStream {
    void operator()(cudaStream_t stream) const { CUDA_CHECK_LOG(cudaStreamDestroy(stream)); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, DestroyStream>;
Stream make_stream() {
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return Stream(stream);
}

struct DestroyEvent {
    void operator()(cudaEvent_t event) const { CUDA_CHECK_LOG(cudaEventDestroy(event)); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;
Event make_event() {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return Event(event);
}

/// While it exists, ops on ctx are queued on `stream`. Only for ops without scratch, which work on ctx's own
/// stream may be using.
class OnStream {
  public:
    OnStream(CudaHandles& handles, cudaStream_t stream)
        : handles_(handles), before_(std::exchange(handles.stream, stream)) {}
    ~OnStream() { handles_.stream = before_; }
    OnStream(const OnStream&) = delete;
    OnStream& operator=(const OnStream&) = delete;

  private:
    CudaHandles& handles_;
    cudaStream_t before_;
};

/// "n1 0000:1b:00.0"
std::string place_of(const CudaHandles& handles) {
    char bus[32] = {};
    CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, handles.device));
    return fmt::format("{} {}", host_name(), bus);
}

/// Seconds that ranks may need for NCCL's initialisation, from the moment when every rank has its id.
constexpr double kStartPatience = 60;

class NcclComm final : public Comm {
  public:
    NcclComm(World& world, CudaContext& ctx)
        : Comm(world, Transport::kNccl), nccl_(Nccl::get()), comm_(nccl_) {
        refuse_shared_devices(ctx.handles());
        stream_ = make_stream();
        before_ = make_event();
        after_ = make_event();
        flag_ = allocate(ctx, size_of(DType::kI32));
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;
        const ncclUniqueId id = shared_id();
        const Whereabouts::Collective here(where_, "initialisation of NCCL", kStartPatience);
        comm_.check(nccl_.init_rank(comm_.address(), size(), id, rank(), &config), "ncclCommInitRankConfig");
    }

    void all_reduce_sum(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-reduce");
        const ncclDataType_t type = x.dtype() == DType::kF64 ? ncclDouble : ncclFloat;
        PASTUR_CHECK(x.dtype() == DType::kF64 || x.dtype() == DType::kF32, "all_reduce_sum of {}",
                     describe(x));
        follow(ctx);
        comm_.check(nccl_.all_reduce(x.bytes(), x.bytes(), count(x.numel()), type, ncclSum, comm_.get(),
                                     stream_.get()),
                    "ncclAllReduce");
        wait();
    }
    int all_reduce_max(int value) override {
        const Whereabouts::Collective here(where_, "agreement on the next step");
        CUDA_CHECK(
            cudaMemcpyAsync(flag_.data(), &value, sizeof value, cudaMemcpyHostToDevice, stream_.get()));
        comm_.check(
            nccl_.all_reduce(flag_.data(), flag_.data(), 1, ncclInt32, ncclMax, comm_.get(), stream_.get()),
            "ncclAllReduce");
        wait();
        CUDA_CHECK(
            cudaMemcpyAsync(&value, flag_.data(), sizeof value, cudaMemcpyDeviceToHost, stream_.get()));
        CUDA_CHECK(cudaStreamSynchronize(stream_.get()));
        return value;
    }
    void barrier() override { all_reduce_max(0); }

    void begin_reduce_scatter(Context& ctx, Tensor x, DType wire) override {
        const Whereabouts::Collective here(where_, "reduce-scatter");
        if (wire == DType::kBF16) {
            sum_in_order(ctx, own_part(x), x, Update::kAssign, wire);
            round_own_part(ctx, x);
            return;
        }
        follow(ctx);
        const int64_t part = x.numel() / size();
        float* data = x.data<float>();
        comm_.check(nccl_.reduce_scatter(data, data + rank() * part, count(part), ncclFloat, ncclSum,
                                         comm_.get(), stream_.get()),
                    "ncclReduceScatter");
    }
    void begin_all_gather(Context& ctx, Tensor x) override {
        const Whereabouts::Collective here(where_, "all-gather");
        follow(ctx);
        const int64_t part = x.numel() / size();
        float* data = x.data<float>();
        comm_.check(
            nccl_.all_gather(data + rank() * part, data, count(part), ncclFloat, comm_.get(), stream_.get()),
            "ncclAllGather");
    }
    // Not ncclAllReduce, which may sum in another order than ncclReduceScatter.
    void begin_all_reduce(Context& ctx, Tensor x, DType wire) override {
        begin_reduce_scatter(ctx, x, wire);
        if (wire == DType::kF32) return begin_all_gather(ctx, x);
        const Whereabouts::Collective here(where_, "all-gather");
        const int64_t part = x.numel() / size();
        const Tensor sent = narrow(x.numel());
        comm_.check(nccl_.all_gather(own_part(sent).bytes(), sent.bytes(), count(part), ncclFloat16,
                                     comm_.get(), stream_.get()),
                    "ncclAllGather");
        auto& cuda = std::get<CudaContext>(ctx);
        const OnStream on(cuda.handles(), stream_.get());
        cast(cuda, x, sent);
    }
    void begin_ordered_sum(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) override {
        const Whereabouts::Collective here(where_, "ordered sum");
        sum_in_order(ctx, total, x, update, wire);
    }
    void progress(Context&) override {}  // the device does it
    void finish(Context&) override {
        const Whereabouts::Collective here(where_, "end of gradients or weights");
        wait();
    }

  private:
    static size_t count(int64_t elements) { return static_cast<size_t>(elements); }
    Tensor own_part(const Tensor& x) const {
        const int64_t n = x.numel() / size();
        return x.slice(0, rank() * n, n);
    }

    // Everything of a sum is queued on stream_, so it overlaps with computation and a later sum may reuse the
    // buffers.

    /// total = or += the rank-th parts of all ranks' x in the order of the ranks, sent as `wire`. The library only
    /// moves numbers, for which bf16 and fp16 are alike; some versions declare bf16 in device code alone.
    void sum_in_order(Context& ctx, Tensor total, ConstTensor x, Update update, DType wire) {
        auto& cuda = std::get<CudaContext>(ctx);
        const int64_t part = total.numel(), bytes = x.numel() * size_of(wire);
        if (received_.bytes() < bytes) received_ = allocate(ctx, bytes);
        if (wire == DType::kBF16 && sent_.bytes() < bytes) sent_ = allocate(ctx, bytes);
        const Tensor received(received_.data(), wire, {size(), part});
        follow(ctx);
        const OnStream on(cuda.handles(), stream_.get());
        if (wire == DType::kBF16) {
            const Tensor sent = narrow(x.numel());
            cast(cuda, sent, x);
            x = sent;
        }
        const ncclDataType_t type = wire == DType::kBF16 ? ncclFloat16 : ncclFloat;
        comm_.check(nccl_.group_start(), "ncclGroupStart");
        for (int peer = 0; peer < size(); ++peer) {
            comm_.check_started(nccl_.send(x.slice(0, peer * part, part).bytes(), count(part), type, peer,
                                           comm_.get(), stream_.get()),
                                "ncclSend, ncclRecv");
            comm_.check_started(nccl_.receive(received.slice(0, peer, 1).bytes(), count(part), type, peer,
                                              comm_.get(), stream_.get()),
                                "ncclSend, ncclRecv");
        }
        comm_.check(nccl_.group_end(), "ncclGroupEnd");
        sum_rows(cuda, total, received, update);
    }
    /// Rounds this rank's part of x, and leaves it in the buffer of numbers to send.
    void round_own_part(Context& ctx, Tensor x) {
        auto& cuda = std::get<CudaContext>(ctx);
        const OnStream on(cuda.handles(), stream_.get());
        const Tensor rounded = own_part(narrow(x.numel()));
        cast(cuda, rounded, own_part(x));
        cast(cuda, own_part(x), rounded);
    }
    /// The buffer of numbers to send.
    Tensor narrow(int64_t elements) const { return Tensor(sent_.data(), DType::kBF16, {elements}); }

    /// Collectives wait for everything queued on ctx so far.
    void follow(Context& ctx) {
        CUDA_CHECK(cudaEventRecord(before_.get(), std::get<CudaContext>(ctx).handles().stream));
        CUDA_CHECK(cudaStreamWaitEvent(stream_.get(), before_.get(), 0));
    }
    /// Waits for all collectives. The host polls, so a network error ends the run.
    void wait() {
        CUDA_CHECK(cudaEventRecord(after_.get(), stream_.get()));
        for (;;) {
            const cudaError_t state = cudaEventQuery(after_.get());
            if (state == cudaSuccess) return;
            if (state != cudaErrorNotReady) CUDA_CHECK(state);
            comm_.check_progress();
            std::this_thread::yield();
        }
    }
    ncclUniqueId shared_id() {
        ncclUniqueId id{};
        if (rank() == 0) comm_.check(nccl_.get_unique_id(&id), "ncclGetUniqueId");
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
                    fail(
                        ExitCode::kNoDevice,
                        "ranks {} and {} would share a GPU ({}), which NCCL does not support: start one rank per "
                        "GPU, or use --comm mpi",
                        j, i, places[i]);
    }

    // Destroyed from the last to the first: the communicator before the stream and the memory it uses.
    const Nccl& nccl_;
    Buffer flag_, received_, sent_;
    Stream stream_;
    Event before_, after_;
    Communicator<Nccl> comm_;
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
