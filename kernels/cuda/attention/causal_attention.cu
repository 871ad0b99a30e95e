// Causal attention on CUDA: which kernel takes which inputs, and the sum over parts of dk_shared.
#include "kernels/causal_attention.h"

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/attention_rotation.h"
#include "kernels/cuda/attention/params.h"
#include "kernels/cuda/attention/tensor_maps.cuh"
#include "kernels/cuda/launch.cuh"

namespace pastur {
namespace {

AttentionSizes sizes_of(const AttentionInputs& in) {
    // The online softmax takes the maximum before it scales.
    PASTUR_CHECK(in.scale > 0, "attention: scale {}, expected a positive number", in.scale);
    const auto size = [](const ConstTensor& tensor, int i) { return static_cast<int>(tensor.size(i)); };
    AttentionSizes sizes{};
    sizes.batch = size(in.q, 0);
    sizes.tokens = size(in.q, 1);
    sizes.heads = size(in.q, 2);
    sizes.kv_heads = size(in.k, 2);
    sizes.content = size(in.k, 3);
    sizes.rotary = in.k_shared.empty() ? 0 : size(in.k_shared, 2);
    sizes.value = size(in.v, 3);
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

/// Whether the rows of a tensor are whole units of 16 bytes that start on such a unit.
bool rows_aligned(const ConstTensor& tensor) {
    return tensor.empty() || (allows_vectors(tensor) && tensor.size(-1) * size_of(tensor.dtype()) % 16 == 0);
}
bool rows_aligned(const AttentionInputs& in) {
    return rows_aligned(in.q) && rows_aligned(in.k) && rows_aligned(in.k_shared) && rows_aligned(in.v);
}

template <typename T>
AttentionForwardParams<T> forward_params(Tensor out, Tensor lse, const AttentionInputs& in) {
    return {sizes_of(in),
            in.scale,
            head_view<const T>(in.q),
            head_view<const T>(in.k),
            head_view<const T>(in.k_shared),
            head_view<const T>(in.v),
            head_view<T>(out),
            device_data<float>(lse),
            nullptr,
            {},
            {}};
}

template <typename T>
AttentionBackwardParams<T> backward_params(const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
                                           ConstTensor lse, const AttentionInputs& in) {
    AttentionBackwardParams<T> params{};
    params.sizes = sizes_of(in);
    params.scale = in.scale;
    params.q = head_view<const T>(in.q);
    params.k = head_view<const T>(in.k);
    params.k_shared = head_view<const T>(in.k_shared);
    params.v = head_view<const T>(in.v);
    params.out = head_view<const T>(out);
    params.dout = head_view<const T>(dout);
    params.lse = device_data<float>(lse);
    params.dq = head_view<T>(grads.dq);
    params.dk = head_view<T>(grads.dk);
    params.dv = head_view<T>(grads.dv);
    params.dk_shared = head_view<T>(grads.dk_shared);
    params.rotated_keys = grads.rotated_keys;
    if (!grads.rope_table.empty() && allows_vectors(grads.rope_table))
        params.rope_table = device_data<float>(grads.rope_table);
    return params;
}

/// to[b, t, :] = sum over i of partials[b, i, t, :], in ascending i, in fp32. One thread per kWidth columns.
template <typename T, int kWidth>
__global__ void sum_partials_kernel(HeadView<T> to, const T* partials, int parts, AttentionSizes sizes) {
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
void sum_partials(CudaContext& ctx, const HeadView<T>& to, const T* partials, int parts,
                  const AttentionSizes& sizes) {
    constexpr int kThreads = 256;
    const int64_t threads = static_cast<int64_t>(sizes.batch) * sizes.tokens * (sizes.rotary / kWidth);
    launch(ctx, static_cast<unsigned>(ceil_div(threads, kThreads)), kThreads, 0,
           sum_partials_kernel<T, kWidth>, to, partials, parts, sizes);
}

/// Which kernels compute a pass.
enum class Kernels { kSimt, kSm80, kHopper, kResident };

Kernels kernels_for(CudaContext& ctx, const AttentionSizes& sizes, bool aligned, bool resident) {
    if (!aligned) return Kernels::kSimt;
    if (resident) return Kernels::kResident;
    if (attention_hopper_supports(ctx, sizes)) return Kernels::kHopper;
    return attention_sm80_supports(ctx, sizes) ? Kernels::kSm80 : Kernels::kSimt;
}

/// The same for a backward pass, and in how many partial sums they leave dk_shared.
struct BackwardPlan {
    Kernels kernels;
    int parts;
};

template <typename T>
BackwardPlan backward_plan(CudaContext& ctx, const AttentionSizes& sizes, bool aligned) {
    const bool resident =
        std::is_same_v<T, bf16> && aligned && attention_resident_supports_backward(ctx, sizes);
    return {kernels_for(ctx, sizes, std::is_same_v<T, bf16> && aligned, resident),
            resident ? attention_resident_key_parts(ctx, sizes) : sizes.kv_heads};
}

void backward_kernels(CudaContext& ctx, const AttentionBackwardParams<float>& params, const BackwardPlan&) {
    attention_simt_backward(ctx, params);
}
void backward_kernels(CudaContext& ctx, const AttentionBackwardParams<bf16>& params,
                      const BackwardPlan& plan) {
    switch (plan.kernels) {
        case Kernels::kResident:
            return attention_resident_backward(ctx, params);
        case Kernels::kHopper:
            return attention_hopper_backward(ctx, params);
        case Kernels::kSm80:
            return attention_sm80_backward(ctx, params);
        case Kernels::kSimt:
            return attention_simt_backward(ctx, params);
    }
}

/// What the Hopper kernels add dq up in.
template <typename T>
void take_sums(Arena::Frame& frame, AttentionBackwardParams<T>& params) {
    const AttentionSums sums = attention_hopper_sums(params.sizes);
    params.dq_sums = reinterpret_cast<float*>(frame.take(DType::kF32, {sums.floats}).bytes());
    params.dq_counters = reinterpret_cast<int*>(frame.take(DType::kI32, {sums.counters}).bytes());
}

/// True where the kernels rotated the gradients back themselves.
template <typename T>
bool backward(CudaContext& ctx, AttentionBackwardParams<T> params, DType dtype, bool aligned) {
    const AttentionSizes& sizes = params.sizes;
    const BackwardPlan plan = backward_plan<T>(ctx, sizes, aligned);
    Arena::Frame frame(ctx.scratch(), "causal_attention_backward");
    params.row_stats = reinterpret_cast<float2*>(
        frame.take(DType::kF32, {sizes.batch, sizes.heads, attention_padded_tokens(sizes.tokens), 2})
            .bytes());
    if (plan.kernels == Kernels::kHopper) take_sums(frame, params);
    const bool partial = sizes.rotary > 0 && plan.parts > 1;
    const HeadView<T> dk_shared = params.dk_shared;
    if (partial) {
        const int64_t per_part = static_cast<int64_t>(sizes.tokens) * sizes.rotary;
        const Tensor partials = frame.take(dtype, {sizes.batch, plan.parts, sizes.tokens, sizes.rotary});
        params.dk_shared = {reinterpret_cast<T*>(partials.bytes()), plan.parts * per_part, sizes.rotary,
                            static_cast<int>(per_part)};
    }
    backward_kernels(ctx, params, plan);
    if (partial && aligned)
        sum_partials<T, kVector<T>>(ctx, dk_shared, params.dk_shared.data, plan.parts, sizes);
    else if (partial)
        sum_partials<T, 1>(ctx, dk_shared, params.dk_shared.data, plan.parts, sizes);
    return params.rope_table && (plan.kernels == Kernels::kResident || plan.kernels == Kernels::kHopper);
}

}  // namespace

void causal_attention_forward(CudaContext& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary) {
    const AttentionSizes sizes = sizes_of(in);
    const bool aligned = in.q.dtype() == DType::kBF16 && rows_aligned(in) && rows_aligned(out);
    const bool resident = aligned && attention_resident_supports_forward(ctx, sizes);
    // A key that several heads read cannot be rotated by one of them.
    const bool rotates = resident && !rotary.table.empty() && allows_vectors(rotary.table) &&
                         (sizes.rotary > 0 || sizes.group() == 1 || rotary.k.empty());
    if (!rotates)
        rotate(ctx, rotary);
    else if (sizes.rotary > 0)
        rope(ctx, rotary.k, rotary.k, rotary.table, Rotation::kForward);
    if (in.q.dtype() == DType::kF32) {
        attention_simt_forward(ctx, forward_params<float>(out, lse, in));
        return;
    }
    auto params = forward_params<bf16>(out, lse, in);
    if (rotates) {
        params.rope_table = device_data<float>(rotary.table);
        params.rotated_q = head_view<bf16>(rotary.q);
        params.rotated_k = head_view<bf16>(rotary.k);
    }
    switch (kernels_for(ctx, sizes, aligned, resident)) {
        case Kernels::kResident:
            return attention_resident_forward(ctx, params);
        case Kernels::kHopper:
            return attention_hopper_forward(ctx, params);
        case Kernels::kSm80:
            return attention_sm80_forward(ctx, params);
        case Kernels::kSimt:
            return attention_simt_forward(ctx, params);
    }
}

void causal_attention_backward(CudaContext& ctx, const AttentionGrads& grads, ConstTensor dout,
                               ConstTensor out, ConstTensor lse, const AttentionInputs& in) {
    const bool aligned = rows_aligned(in) && rows_aligned(dout) && rows_aligned(out) &&
                         rows_aligned(grads.dq) && rows_aligned(grads.dk) && rows_aligned(grads.dk_shared) &&
                         rows_aligned(grads.dv);
    visit_float_type(in.q.dtype(), [&]<typename T>() {
        if (!backward(ctx, backward_params<T>(grads, dout, out, lse, in), in.q.dtype(), aligned))
            rotate_back(ctx, grads);
    });
}

int64_t causal_attention_backward_scratch_bytes(CudaContext& ctx, const AttentionInputs& in) {
    const AttentionSizes sizes = sizes_of(in);
    const int64_t rows = static_cast<int64_t>(sizes.batch) * sizes.tokens;
    int64_t bytes = align_up(static_cast<int64_t>(sizes.batch) * sizes.heads *
                             attention_padded_tokens(sizes.tokens) * static_cast<int64_t>(sizeof(float2)));
    if (in.q.dtype() == DType::kBF16 && attention_hopper_supports(ctx, sizes) &&
        !attention_resident_supports_backward(ctx, sizes)) {
        const AttentionSums sums = attention_hopper_sums(sizes);
        bytes += align_up(sums.floats * 4) + align_up(sums.counters * 4);
    }
    if (sizes.rotary > 0 && sizes.kv_heads > 1)  // the most parts that dk_shared comes in
        bytes += align_up(rows * sizes.kv_heads * sizes.rotary * size_of(in.q.dtype()));
    return bytes;
}

std::string causal_attention_fallback(CudaContext& ctx, const AttentionInputs& in) {
    if (in.q.dtype() != DType::kBF16) return "";
    const AttentionSizes sizes = sizes_of(in);
    const bool aligned = rows_aligned(in);
    const std::string what = fmt::format("attention: heads of {}{}/{} columns (key{}/value)", sizes.content,
                                         sizes.rotary > 0 ? fmt::format("+{}", sizes.rotary) : "",
                                         sizes.value, sizes.rotary > 0 ? "+shared key" : "");
    switch (kernels_for(ctx, sizes, aligned, aligned && attention_resident_supports_forward(ctx, sizes))) {
        case Kernels::kHopper:
        case Kernels::kResident:
            return "";
        case Kernels::kSm80:
            if (!has_tensor_copies(ctx)) return "";
            return fmt::format(
                "{} have no kernels made for Hopper, only {} have: they take the slower ones of "
                "sm_80",
                what, attention_hopper_widths());
        case Kernels::kSimt:
            return fmt::format(
                "{} {}: they take kernels without tensor cores, which are far slower", what,
                aligned ? "are too wide" : "are not all multiples of 8 columns at multiples of 16 bytes");
    }
    return "";
}

}  // namespace pastur
