#pragma once
// Numbers inside kernels: conversion of f32 and bf16 to fp32 and back, vectors of 16 bytes, reductions in a
// fixed order.
#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/base/tensor.h"

namespace pastur {

using bf16 = __nv_bfloat16;

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

/// Elements of T in 16 bytes, the widest access of a thread.
template <typename T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

__device__ inline float to_float(float value) {
    return value;
}
__device__ inline float to_float(bf16 value) {
    return __bfloat162float(value);
}

/// Rounds to nearest, ties to even.
template <typename T>
__device__ inline T from_float(float value) {
    if constexpr (std::is_same_v<T, bf16>)
        return __float2bfloat16_rn(value);
    else
        return value;
}

/// kWidth consecutive elements, stored as in memory and moved in accesses of up to 16 bytes, to which the
/// address must be aligned. A kernel written with Packed has one body for aligned rows (kWidth = kVector<T>)
/// and for any rows (kWidth = 1). The elements are stored in words of 32 bits, because a single bf16 would
/// occupy a whole register.
template <typename T, int kWidth>
struct Packed {
    static_assert(std::is_same_v<T, float> || std::is_same_v<T, bf16>);
    static constexpr int kWords = sizeof(T) * kWidth / 4;
    static_assert(kWords % 4 == 0 || kWords == 2);
    uint32_t words[kWords];

    __device__ static Packed load(const T* from) {
        Packed packed;
        if constexpr (kWords == 2) {
            const uint2 chunk = *reinterpret_cast<const uint2*>(from);
            packed.words[0] = chunk.x, packed.words[1] = chunk.y;
        } else {
#pragma unroll
            for (int i = 0; i < kWords; i += 4) {
                const uint4 chunk = reinterpret_cast<const uint4*>(from)[i / 4];
                packed.words[i] = chunk.x, packed.words[i + 1] = chunk.y;
                packed.words[i + 2] = chunk.z, packed.words[i + 3] = chunk.w;
            }
        }
        return packed;
    }
    __device__ void store(T* to) const {
        if constexpr (kWords == 2) {
            *reinterpret_cast<uint2*>(to) = {words[0], words[1]};
        } else {
#pragma unroll
            for (int i = 0; i < kWords; i += 4)
                reinterpret_cast<uint4*>(to)[i / 4] = {words[i], words[i + 1], words[i + 2], words[i + 3]};
        }
    }
    __device__ float operator[](int i) const {
        if constexpr (std::is_same_v<T, bf16>)  // a bf16 is the upper half of an fp32 number
            return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u);
        else
            return __uint_as_float(words[i]);
    }
    /// number(0) to number(kWidth - 1), rounded to T.
    template <typename Number>
    __device__ static Packed of(const Number& number) {
        Packed packed;
#pragma unroll
        for (int i = 0; i < kWords; ++i) {
            if constexpr (std::is_same_v<T, bf16>) {
                const __nv_bfloat162 pair = __floats2bfloat162_rn(number(2 * i), number(2 * i + 1));
                packed.words[i] = *reinterpret_cast<const uint32_t*>(&pair);
            } else {
                packed.words[i] = __float_as_uint(number(i));
            }
        }
        return packed;
    }
};

/// A single number, at any address.
template <typename T>
struct Packed<T, 1> {
    T number;

    __device__ static Packed load(const T* from) { return {*from}; }
    __device__ void store(T* to) const { *to = number; }
    __device__ float operator[](int) const { return to_float(number); }
    template <typename Number>
    __device__ static Packed of(const Number& number) {
        return {from_float<T>(number(0))};
    }
};

/// The mask of this thread's warp (kLanes = 32) or half warp (16).
template <int kLanes>
__device__ inline unsigned lanes_of() {
    static_assert(kLanes == kWarp || kLanes == kWarp / 2);
    if constexpr (kLanes == kWarp)
        return kAllLanes;
    else
        return threadIdx.x % kWarp < kLanes ? 0xffffu : 0xffff0000u;
}

/// Sum and maximum over a warp or half a warp. The other half need not call it. A butterfly adds the same
/// pairs in every lane, so all lanes get the same bits.
template <int kLanes = kWarp, typename Number>
__device__ inline Number warp_sum(Number value) {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(lanes_of<kLanes>(), value, offset);
    return value;
}

template <int kLanes = kWarp, typename Number>
__device__ inline Number warp_max(Number value) {
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2)
        value = fmax(value, __shfl_xor_sync(lanes_of<kLanes>(), value, offset));
    return value;
}

/// Sum over a block of kThreads, valid in every thread; warps are added in ascending order. Every thread must
/// call it. `shared` holds kThreads / 32 numbers and may be reused only after another __syncthreads().
template <int kThreads, typename Number>
__device__ inline Number block_sum(Number value, Number* shared) {
    static_assert(kThreads % kWarp == 0);
    value = warp_sum(value);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
    __syncthreads();
    Number sum = shared[0];
#pragma unroll
    for (int warp = 1; warp < kThreads / kWarp; ++warp) sum += shared[warp];
    return sum;
}

/// Maximum over a block, under the conditions of block_sum. fmax ignores NaN.
template <int kThreads, typename Number>
__device__ inline Number block_max(Number value, Number* shared) {
    static_assert(kThreads % kWarp == 0);
    value = warp_max(value);
    if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = value;
    __syncthreads();
    Number maximum = shared[0];
#pragma unroll
    for (int warp = 1; warp < kThreads / kWarp; ++warp) maximum = fmax(maximum, shared[warp]);
    return maximum;
}

/// The device address of a tensor's numbers as T*, where T is float, bf16, double or int32_t. The dtype is
/// checked.
template <typename T, typename Byte>
auto device_data(const TensorView<Byte>& tensor) {
    if constexpr (std::is_same_v<T, bf16>)
        return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const bf16*, bf16*>>(
            tensor.template data<Bf16>());
    else
        return tensor.template data<T>();
}

/// Rows of a matrix on the device; the stride is in elements.
template <typename T>
struct Rows {
    T* data;
    int64_t stride;
    __device__ T* operator[](int64_t row) const { return data + row * stride; }
};

/// The rows of a matrix; data is null if the tensor is empty.
template <typename T, typename Byte>
auto rows_of(const TensorView<Byte>& tensor) {
    using Element = std::remove_pointer_t<decltype(device_data<T>(tensor))>;
    return tensor.empty() ? Rows<Element>{nullptr, 0}
                          : Rows<Element>{device_data<T>(tensor), tensor.stride(0)};
}

/// Calls run.template operator()<float>() or <bf16>().
template <typename Run>
void visit_float_type(DType dtype, const Run& run) {
    if (dtype == DType::kBF16)
        run.template operator()<bf16>();
    else if (dtype == DType::kF32)
        run.template operator()<float>();
    else
        PASTUR_CHECK(false, "{}: expected f32 or bf16", name_of(dtype));
}

/// Whether accesses of 16 bytes along the rows of `tensor` are aligned: its address and all strides except
/// the last, which is 1, are multiples of 16 bytes.
template <typename Byte>
bool allows_vectors(const TensorView<Byte>& tensor) {
    const int64_t size = size_of(tensor.dtype());
    if (reinterpret_cast<uintptr_t>(tensor.bytes()) % 16 != 0) return false;
    for (int i = 0; i + 1 < tensor.rank(); ++i)
        if (tensor.size(i) > 1 && tensor.stride(i) * size % 16 != 0) return false;
    return true;
}

}  // namespace pastur
