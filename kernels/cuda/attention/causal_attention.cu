// Causal attention on CUDA: runs the first path of the table (paths.h) that takes the inputs, and adds up
// partial sums of dk_shared.
#include "kernels/attention/causal_attention.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/attention/attention_rotation.h"
#include "kernels/cuda/attention/paths.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/tensor_map.h"

namespace pastur {
namespace attention {
namespace {

Sizes sizes_of(const AttentionInputs& in) {
    // The online softmax takes the maximum before it scales.
    PASTUR_CHECK(in.scale > 0, "attention: scale {}, expected a positive number", in.scale);
    const auto size = [](const ConstTensor& tensor, int i) { return static_cast<int>(tensor.size(i)); };
    Sizes sizes{};
    sizes.batch = size(in.q, 0);
    sizes.tokens = size(in.q, 1);
    sizes.heads = size(in.q, 2);
    sizes.kv_heads = size(in.k, 2);
    sizes.content = size(in.k, 3);
    sizes.rotary = in.k_shared.empty() ? 0 : size(in.k_shared, 2);
    sizes.value = size(in.v, 3);
    // Beyond the length all strides hide the same keys.
    sizes.stride = static_cast<int>(std::min<int64_t>(in.stride, in.q.size(1) + 1));
    return sizes;
}

/// [B, T, heads, width], or [B, T, width] as one head that all share; an empty tensor gives an empty view.
template <typename T, typename Byte>
HeadView<T> head_view(const TensorView<Byte>& tensor) {
    if (tensor.empty()) return {};
    const int64_t token = tensor.stride(1), head = tensor.rank() == 4 ? tensor.stride(2) : 0;
    constexpr int64_t kLargest = std::numeric_limits<int>::max();
    PASTUR_CHECK(token >= 0 && token <= kLargest && head >= 0 && head <= kLargest, "attention: strides of {}",
                 describe(tensor));
    return {device_data<std::remove_const_t<T>>(tensor), tensor.stride(0), static_cast<int>(token),
            static_cast<int>(head)};
}

/// Whether the rows of all tensors are whole units of 16 bytes that start on such a unit.
template <typename... Tensors>
bool rows_aligned(const Tensors&... tensors) {
    const auto aligned = [](const ConstTensor& x) {
        return x.empty() || (allows_vectors(x) && x.size(-1) * size_of(x.dtype()) % 16 == 0);
    };
    return (aligned(tensors) && ...);
}
bool inputs_aligned(const AttentionInputs& in) {
    return rows_aligned(in.q, in.k, in.k_shared, in.v);
}

/// The first path that takes a pass (&Path::forward or &Path::backward), or the one that the caller names.
template <auto kPass>
const Path& path_for(CudaContext& ctx, const Call& call, const AttentionInputs& in) {
    for (const Path& path : paths())
        if ((in.path.empty() || in.path == path.name) && (path.*kPass).takes(ctx, call)) return path;
    fail(ExitCode::kOther, "attention: path \"{}\" does not take q {}, k {}, k_shared {}, v {}, stride {}{}",
         in.path, describe(in.q), describe(in.k), describe(in.k_shared), describe(in.v), in.stride,
         in.documents.empty() ? "" : ", with documents");
}

template <typename T>
ForwardParams<T> forward_params(Tensor out, Tensor lse, Tensor max_logit, const AttentionInputs& in) {
    ForwardParams<T> params{};
    params.sizes = sizes_of(in);
    params.scale = in.scale;
    params.q = head_view<const T>(in.q);
    params.k = head_view<const T>(in.k);
    params.k_shared = head_view<const T>(in.k_shared);
    params.v = head_view<const T>(in.v);
    params.out = head_view<T>(out);
    params.lse = device_data<float>(lse);
    params.documents = documents_of(in.documents);
    if (!max_logit.empty())
        params.max_logit = {device_data<float>(max_logit), static_cast<int>(max_logit.stride(0))};
    return params;
}

template <typename T>
BackwardParams<T> backward_params(const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
                                  ConstTensor lse, const AttentionInputs& in) {
    BackwardParams<T> params{};
    params.sizes = sizes_of(in);
    params.scale = in.scale;
    params.q = head_view<const T>(in.q);
    params.k = head_view<const T>(in.k);
    params.k_shared = head_view<const T>(in.k_shared);
    params.v = head_view<const T>(in.v);
    params.out = head_view<const T>(out);
    params.dout = head_view<const T>(dout);
    params.lse = device_data<float>(lse);
    params.documents = documents_of(in.documents);
    params.dq = head_view<T>(grads.dq);
    params.dk = head_view<T>(grads.dk);
    params.dv = head_view<T>(grads.dv);
    params.dk_shared = head_view<T>(grads.dk_shared);
    params.rotated_keys = grads.rotated_keys;
    return params;
}

template <typename T>
void forward(CudaContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in, const RotaryColumns& rotary,
             Tensor max_logit) {
    const Call call{sizes_of(in), in.q.dtype(), inputs_aligned(in) && rows_aligned(out)};
    const Path& path = path_for<&Path::forward>(ctx, call, in);
    ForwardParams<T> params = forward_params<T>(out, lse, max_logit, in);
    // Of several heads that read one key, none can rotate it in place.
    const bool inside = path.forward.rotates && !rotary.table.empty() && allows_vectors(rotary.table) &&
                        (call.sizes.rotary > 0 || call.sizes.group() == 1 || rotary.k.empty());
    if (inside) {
        if (call.sizes.rotary > 0) rope(ctx, rotary.k, rotary.k, rotary.table, Rotation::kForward);
        params.rope_table = device_data<float>(rotary.table);
        params.rotated_q = head_view<T>(rotary.q);
        params.rotated_k = head_view<T>(rotary.k);
    } else {
        rotate(ctx, rotary);
    }
    path.forward(ctx, params);
}

/// to[b, t, :] = sum over i of partials[b, i, t, :], in ascending i, in fp32. One thread per kWidth columns.
template <typename T, int kWidth>
__global__ void sum_partials_kernel(HeadView<T> to, const T* partials, int parts, Sizes sizes) {
    const int columns = sizes.rotary / kWidth;
    const int64_t per_head = static_cast<int64_t>(sizes.tokens) * columns;
    const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int64_t batch = index / per_head, within = index % per_head;
    if (batch >= sizes.batch) return;
    const T* from = partials + (batch * parts * per_head + within) * kWidth;
    float sum[kWidth] = {};
    for (int i = 0; i < parts; ++i) {
        const auto part = Packed<T, kWidth>::load(from + i * per_head * kWidth);
#pragma unroll
        for (int j = 0; j < kWidth; ++j) sum[j] += part[j];
    }
    const auto rounded = Packed<T, kWidth>::of([&](int i) { return sum[i]; });
    rounded.store(to.data + batch * to.batch + within / columns * to.token + within % columns * kWidth);
}

template <typename T, int kWidth>
void sum_partials(CudaContext& ctx, const HeadView<T>& to, const T* partials, int parts, const Sizes& sizes) {
    constexpr int kThreads = 256;
    const int64_t threads = static_cast<int64_t>(sizes.batch) * sizes.tokens * (sizes.rotary / kWidth);
    launch(ctx, static_cast<unsigned>(ceil_div(threads, kThreads)), kThreads, 0,
           sum_partials_kernel<T, kWidth>, to, partials, parts, sizes);
}

template <typename T>
T* take(Arena::Frame& frame, int64_t count) {
    if (count == 0) return nullptr;
    static_assert(sizeof(T) % sizeof(float) == 0);
    return reinterpret_cast<T*>(frame.take(DType::kF32, {count, sizeof(T) / sizeof(float)}).bytes());
}

/// Whether dk_shared is written as partial sums.
bool partial(const Sizes& sizes, const BackwardScratch& scratch) {
    return sizes.rotary > 0 && scratch.key_parts > 1;
}

template <typename T>
void backward(CudaContext& ctx, const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
              ConstTensor lse, const AttentionInputs& in) {
    const Call call{
        sizes_of(in), in.q.dtype(),
        inputs_aligned(in) && rows_aligned(dout, out, grads.dq, grads.dk, grads.dk_shared, grads.dv)};
    const Sizes& sizes = call.sizes;
    const Path& path = path_for<&Path::backward>(ctx, call, in);
    const BackwardScratch scratch = path.scratch(ctx, sizes);
    BackwardParams<T> params = backward_params<T>(grads, dout, out, lse, in);
    Arena::Frame frame(ctx.scratch(), "causal_attention_backward");
    params.row_stats = take<float2>(frame, scratch.row_stats);
    params.dq_sums = take<float>(frame, scratch.dq_sums);
    params.dq_counters = take<int>(frame, scratch.dq_counters);
    if (partial(sizes, scratch)) {
        const int parts = scratch.key_parts, per_part = sizes.tokens * sizes.rotary;
        const Tensor sums = frame.take(call.dtype, {sizes.batch, parts, sizes.tokens, sizes.rotary});
        params.dk_shared = {reinterpret_cast<T*>(sums.bytes()), int64_t{parts} * per_part, sizes.rotary,
                            per_part};
    }
    const bool inside =
        path.backward.rotates && !grads.rope_table.empty() && allows_vectors(grads.rope_table);
    if (inside) params.rope_table = device_data<float>(grads.rope_table);
    path.backward(ctx, params);
    if (partial(sizes, scratch)) {
        const auto sum = call.aligned ? sum_partials<T, kVector<T>> : sum_partials<T, 1>;
        sum(ctx, head_view<T>(grads.dk_shared), params.dk_shared.data, scratch.key_parts, sizes);
    }
    if (!inside) rotate_back(ctx, grads);
}

int64_t scratch_bytes(CudaContext& ctx, const Call& call, const AttentionInputs& in) {
    const Sizes& sizes = call.sizes;
    const BackwardScratch scratch = path_for<&Path::backward>(ctx, call, in).scratch(ctx, sizes);
    int64_t bytes = align_up(scratch.row_stats * static_cast<int64_t>(sizeof(float2))) +
                    align_up(scratch.dq_sums * static_cast<int64_t>(sizeof(float))) +
                    align_up(scratch.dq_counters * static_cast<int64_t>(sizeof(int)));
    if (partial(sizes, scratch))
        bytes += align_up(int64_t{sizes.batch} * scratch.key_parts * sizes.tokens * sizes.rotary *
                          size_of(call.dtype));
    return bytes;
}

}  // namespace
}  // namespace attention

void causal_attention_forward(CudaContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary, Tensor max_logit) {
    visit_float_type(in.q.dtype(),
                     [&]<typename T>() { attention::forward<T>(ctx, out, lse, in, rotary, max_logit); });
}

void causal_attention_backward(CudaContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in) {
    visit_float_type(in.q.dtype(),
                     [&]<typename T>() { attention::backward<T>(ctx, grads, dout, out, lse, in); });
}

int64_t causal_attention_backward_scratch_bytes(CudaContext& ctx, const AttentionInputs& in) {
    attention::Call call{attention::sizes_of(in), in.q.dtype(), attention::inputs_aligned(in)};
    const int64_t bytes = attention::scratch_bytes(ctx, call, in);
    if (!call.aligned || !in.path.empty()) return bytes;
    call.aligned = false;  // gradients may be less aligned than the inputs, and run on another path
    return std::max(bytes, attention::scratch_bytes(ctx, call, in));
}

AttentionPaths causal_attention_paths(CudaContext& ctx, const AttentionInputs& in) {
    const attention::Call call{attention::sizes_of(in), in.q.dtype(), attention::inputs_aligned(in)};
    AttentionPaths names;
    for (const attention::Path& path : attention::paths()) {
        if (path.forward.takes(ctx, call)) names.forward.emplace_back(path.name);
        if (path.backward.takes(ctx, call)) names.backward.emplace_back(path.name);
    }
    return names;
}

std::string causal_attention_fallback(CudaContext& ctx, const AttentionInputs& in) {
    using namespace attention;
    if (in.q.dtype() != DType::kBF16) return "";
    const Call call{sizes_of(in), in.q.dtype(), inputs_aligned(in)};
    const Sizes& sizes = call.sizes;
    const Units units = path_for<&Path::forward>(ctx, call, in).units;
    const std::string heads = fmt::format("heads of {}{}/{} columns (key{}/value)", sizes.content,
                                          sizes.rotary > 0 ? fmt::format("+{}", sizes.rotary) : "",
                                          sizes.value, sizes.rotary > 0 ? "+shared key" : "");
    if (units == Units::kCudaCores)
        return fmt::format(
            "attention: {} run without tensor cores, far slower; these need {}", heads,
            call.aligned ? "at most 256 columns" : "multiples of 8 columns at multiples of 16 bytes");
    if (units == Units::kMma && has_tensor_copies(ctx) && sizes.stride > 1)
        return fmt::format(
            "attention: {} with a stride of {} run on the slower kernels of sm_80; Hopper's take a stride "
            "for heads of 32+32/64",
            heads, in.stride);
    if (units == Units::kMma && has_tensor_copies(ctx))
        return fmt::format("attention: {} run on the slower kernels of sm_80; Hopper's exist for {}", heads,
                           wgmma_streaming::widths());
    return "";
}

}  // namespace pastur
