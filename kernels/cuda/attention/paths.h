#pragma once
// The table of attention paths. A path is a pair of kernel families, one per pass. A pass runs on the first
// row of the table that takes it. README.md of this folder lists the paths.
#include <span>
#include <string>
#include <string_view>

#include "kernels/cuda/attention/params.h"

namespace pastur::attention {

/// What decides whether a path takes a pass.
struct Call {
    Sizes sizes;
    DType dtype;
    bool aligned;  ///< rows of all tensors are whole units of 16 bytes at addresses that are multiples of 16

    /// Whether tensor-core kernels can read and write the rows.
    bool bf16_vectors() const { return dtype == DType::kBF16 && aligned; }
};

/// Scratch of a backward pass in elements; 0: not used.
struct BackwardScratch {
    int64_t row_stats = 0;    ///< float2
    int64_t dq_sums = 0;      ///< float
    int64_t dq_counters = 0;  ///< int
    int key_parts = 1;        ///< partial sums in which the path writes dk_shared, where there is one
};

/// One pass of a path. Params: ForwardParams or BackwardParams.
template <template <typename> typename Params>
struct Pass {
    bool (*takes)(CudaContext&, const Call&);
    bool rotates;  ///< whether its kernels include the rotary embedding
    void (*run)(CudaContext&, const Params<bf16>&);
    void (*run_f32)(CudaContext&, const Params<float>&) = nullptr;  ///< null: bf16 alone

    template <typename T>
    void operator()(CudaContext& ctx, const Params<T>& params) const {
        if constexpr (std::is_same_v<T, bf16>)
            run(ctx, params);
        else
            run_f32(ctx, params);
    }
};

/// The instructions that multiply matrices.
enum class Units { kCudaCores, kMma, kWgmma };

struct Path {
    std::string_view name;
    Units units;
    Pass<ForwardParams> forward;
    Pass<BackwardParams> backward;
    BackwardScratch (*scratch)(CudaContext&, const Sizes&);
};

/// All paths, best first. The last takes every call.
std::span<const Path> paths();

/// CUDA cores, fp32 arithmetic: any widths, any alignment, fp32 and bf16.
namespace simt {
bool takes(CudaContext& ctx, const Call& call);
BackwardScratch scratch(CudaContext& ctx, const Sizes& sizes);
template <typename T>
void forward(CudaContext& ctx, const ForwardParams<T>& params);
template <typename T>
void backward(CudaContext& ctx, const BackwardParams<T>& params);
}  // namespace simt

/// mma.sync from sm_80 on: widths up to 256.
namespace mma_streaming {
bool takes(CudaContext& ctx, const Call& call);
BackwardScratch scratch(CudaContext& ctx, const Sizes& sizes);
void forward(CudaContext& ctx, const ForwardParams<bf16>& params);
void backward(CudaContext& ctx, const BackwardParams<bf16>& params);
}  // namespace mma_streaming

/// wgmma and TMA on Hopper: the widths of widths().
namespace wgmma_streaming {
bool takes(CudaContext& ctx, const Call& call);
/// "64/64, 32+32/64": content and shared columns of a key / columns of a value.
std::string widths();
BackwardScratch scratch(CudaContext& ctx, const Sizes& sizes);
void forward(CudaContext& ctx, const ForwardParams<bf16>& params);
void backward(CudaContext& ctx, const BackwardParams<bf16>& params);
}  // namespace wgmma_streaming

/// mma.sync, a whole (sequence, head) of up to 256 tokens on chip: 64 columns, a key also 32 + 32 shared ones.
namespace mma_resident {
bool takes_forward(CudaContext& ctx, const Call& call);
bool takes_backward(CudaContext& ctx, const Call& call);
BackwardScratch scratch(CudaContext& ctx, const Sizes& sizes);
void forward(CudaContext& ctx, const ForwardParams<bf16>& params);
void backward(CudaContext& ctx, const BackwardParams<bf16>& params);
}  // namespace mma_resident

/// wgmma and TMA on Hopper, a whole (sequence, head) on chip: the widths of mma_resident.
namespace wgmma_resident {
bool takes_forward(CudaContext& ctx, const Call& call);
bool takes_backward(CudaContext& ctx, const Call& call);
void forward(CudaContext& ctx, const ForwardParams<bf16>& params);
void backward(CudaContext& ctx, const BackwardParams<bf16>& params);
}  // namespace wgmma_resident

}  // namespace pastur::attention
