#pragma once
// A view of numbers in host or device memory: address, dtype, shape, strides. A view does not own the memory
// (memory.h does), and copying it does not copy the numbers.
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>

#include "kernels/base/error.h"

namespace pastur {

enum class DType : uint8_t { kF32, kBF16, kF64, kI32, kF8E4M3 };

/// Storage of a bfloat16 on the host: the upper half of a float.
struct Bf16 {
    uint16_t bits;
};

/// Storage of an 8-bit float with 4 bits of exponent and 3 of mantissa, at most 448, without infinity
/// (Micikevicius et al., arXiv 2209.05433).
struct F8E4M3 {
    uint8_t bits;
};
inline constexpr float kLargestF8E4M3 = 448;

constexpr int64_t size_of(DType dtype) {
    switch (dtype) {
        case DType::kF8E4M3:
            return 1;
        case DType::kBF16:
            return 2;
        case DType::kF64:
            return 8;
        case DType::kF32:
        case DType::kI32:
            break;
    }
    return 4;
}
const char* name_of(DType dtype);

/// Rounds to nearest, ties to even; NaN stays NaN.
Bf16 to_bf16(float value);
float to_float(Bf16 value);
/// Rounds to nearest, ties to even. Larger numbers and infinity saturate to 448 with their sign; NaN stays
/// NaN.
F8E4M3 to_f8e4m3(float value);
float to_float(F8E4M3 value);

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
    static constexpr DType kValue = DType::kF32;
};
template <>
struct DTypeOf<double> {
    static constexpr DType kValue = DType::kF64;
};
template <>
struct DTypeOf<Bf16> {
    static constexpr DType kValue = DType::kBF16;
};
template <>
struct DTypeOf<int32_t> {
    static constexpr DType kValue = DType::kI32;
};
template <>
struct DTypeOf<F8E4M3> {
    static constexpr DType kValue = DType::kF8E4M3;
};

/// Extents or strides of up to four dimensions.
class Shape {
  public:
    static constexpr int kMaxRank = 4;
    Shape() = default;
    Shape(std::initializer_list<int64_t> extents);
    int rank() const { return rank_; }
    int64_t operator[](int i) const { return extents_[static_cast<size_t>(i)]; }
    int64_t& operator[](int i) { return extents_[static_cast<size_t>(i)]; }
    int64_t numel() const;
    void push_back(int64_t extent);
    bool operator==(const Shape& other) const;

  private:
    std::array<int64_t, kMaxRank> extents_{};
    int rank_ = 0;
};
std::string to_string(const Shape& shape);

/// Byte is std::byte for Tensor, which is writable, and const std::byte for ConstTensor.
template <typename Byte>
class TensorView {
  public:
    TensorView() = default;
    /// Contiguous, row-major.
    TensorView(Byte* data, DType dtype, Shape shape)
        : data_(data), dtype_(dtype), shape_(shape), strides_(shape) {
        int64_t stride = 1;
        for (int i = shape.rank() - 1; i >= 0; --i) {
            strides_[i] = stride;
            stride *= shape[i];
        }
    }
    TensorView(Byte* data, DType dtype, Shape shape, Shape strides)
        : data_(data), dtype_(dtype), shape_(shape), strides_(strides) {}
    /// Tensor converts to ConstTensor.
    template <typename Other>
    requires(std::is_const_v<Byte> && !std::is_const_v<Other>) TensorView(const TensorView<Other>& other)
        : data_(other.bytes()), dtype_(other.dtype()), shape_(other.shape()), strides_(other.strides()) {}

    /// True for a default-constructed view, which stands for an omitted argument.
    bool empty() const { return shape_.rank() == 0; }
    DType dtype() const { return dtype_; }
    const Shape& shape() const { return shape_; }
    const Shape& strides() const { return strides_; }  ///< in elements
    int rank() const { return shape_.rank(); }
    int64_t size(int i) const { return shape_[i < 0 ? i + rank() : i]; }
    int64_t stride(int i) const { return strides_[i < 0 ? i + rank() : i]; }
    int64_t numel() const { return shape_.numel(); }
    int64_t nbytes() const { return numel() * size_of(dtype_); }
    Byte* bytes() const { return data_; }

    template <typename T>
    auto data() const {
        PASTUR_CHECK(DTypeOf<T>::kValue == dtype_, "tensor is {}, read as {}", name_of(dtype_),
                     name_of(DTypeOf<T>::kValue));
        return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const T*, T*>>(data_);
    }

    bool contiguous() const { return strides_ == TensorView(data_, dtype_, shape_).strides_; }

    /// Elements [begin, begin + length) of one dimension.
    TensorView slice(int dim, int64_t begin, int64_t length) const {
        PASTUR_CHECK(dim >= 0 && dim < rank() && begin >= 0 && length >= 0 && begin + length <= size(dim),
                     "slice [{}, {}) of dimension {} of {}", begin, begin + length, dim, to_string(shape_));
        TensorView view = *this;
        view.data_ = data_ + begin * strides_[dim] * size_of(dtype_);
        view.shape_[dim] = length;
        return view;
    }
    /// Splits dimension dim into (outer, inner): [N, H D] -> [N, H, D]. The view may be strided.
    TensorView unflatten(int dim, int64_t outer, int64_t inner) const {
        PASTUR_CHECK(dim >= 0 && dim < rank() && outer * inner == size(dim), "unflatten({}, {}, {}) of {}",
                     dim, outer, inner, to_string(shape_));
        Shape shape, strides;
        for (int i = 0; i < rank(); ++i) {
            if (i == dim) {
                shape.push_back(outer);
                strides.push_back(inner * strides_[i]);
            }
            shape.push_back(i == dim ? inner : size(i));
            strides.push_back(strides_[i]);
        }
        return TensorView(data_, dtype_, shape, strides);
    }
    /// A view of the same numbers with another shape; the view must be contiguous.
    TensorView reshape(Shape shape) const {
        PASTUR_CHECK(contiguous() && shape.numel() == numel(), "reshape of {} to {}", to_string(shape_),
                     to_string(shape));
        return TensorView(data_, dtype_, shape);
    }
    /// [numel], for flat loops; the view must be contiguous.
    TensorView flat() const { return reshape({numel()}); }

  private:
    Byte* data_ = nullptr;
    DType dtype_ = DType::kF32;
    Shape shape_, strides_;
};

using Tensor = TensorView<std::byte>;
using ConstTensor = TensorView<const std::byte>;

/// The rows of bytes that a copy moves: a single row if both sides are contiguous.
struct RowCopy {
    int64_t rows, row_bytes;
    int64_t dst_pitch, src_pitch;  ///< bytes from row to row
};
/// Throws unless dst and src have the same dtype and number of elements and each is contiguous or a matrix
/// with strided rows.
RowCopy row_copy(const char* op, const ConstTensor& dst, const ConstTensor& src);

/// "bf16[512, 768]", with the strides if the view is not contiguous. For error messages.
std::string describe(const ConstTensor& tensor);

/// A host array as a one-dimensional tensor.
template <typename T>
auto as_tensor(std::span<T> values) {
    using Plain = std::remove_const_t<T>;
    using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
    return TensorView<Byte>(reinterpret_cast<Byte*>(values.data()), DTypeOf<Plain>::kValue,
                            Shape{static_cast<int64_t>(values.size())});
}

/// Whether an op overwrites its output (=) or adds to it (+=).
enum class Update : uint8_t { kAssign, kAccumulate };

}  // namespace pastur
