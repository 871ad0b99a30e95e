#include "kernels/base/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace pastur {

const char* name_of(DType dtype) {
    switch (dtype) {
        case DType::kF32:
            return "f32";
        case DType::kBF16:
            return "bf16";
        case DType::kF64:
            return "f64";
        case DType::kI32:
            return "i32";
        case DType::kF8E4M3:
            return "f8e4m3";
    }
    return "?";
}

Bf16 to_bf16(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    if (std::isnan(value)) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
    const uint32_t half_ulp = 0x7fff + ((bits >> 16) & 1);
    return {static_cast<uint16_t>((bits + half_ulp) >> 16)};
}

float to_float(Bf16 value) {
    return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

F8E4M3 to_f8e4m3(float value) {
    const uint8_t sign = std::signbit(value) ? 0x80 : 0;
    const auto with_sign = [sign](int bits) { return F8E4M3{static_cast<uint8_t>(sign | bits)}; };
    if (std::isnan(value)) return with_sign(0x7f);
    const float size = std::min(std::fabs(value), kLargestF8E4M3);
    // Numbers from 2^e to 2^(e + 1) are 2^(e - 3) apart. Below 2^-6 (subnormals) the spacing stays 2^-9.
    const int exponent = std::max(size > 0 ? std::ilogb(size) : -6, -6);
    const auto steps = static_cast<int>(std::nearbyint(std::ldexp(size, 3 - exponent)));
    // From eight steps on, the leading bit adds one to the exponent field, which is how the format encodes
    // it; sixteen steps carry into the next exponent.
    return with_sign((exponent + 6) * 8 + steps);
}

float to_float(F8E4M3 value) {
    const int exponent = value.bits >> 3 & 15, mantissa = value.bits & 7;
    const float size = exponent == 15 && mantissa == 7 ? std::numeric_limits<float>::quiet_NaN()
                       : exponent == 0                 ? std::ldexp(static_cast<float>(mantissa), -9)
                                       : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    return value.bits & 0x80 ? -size : size;
}

Shape::Shape(std::initializer_list<int64_t> extents) {
    for (int64_t extent : extents) push_back(extent);
}

int64_t Shape::numel() const {
    if (rank_ == 0) return 0;
    int64_t count = 1;
    for (int i = 0; i < rank_; ++i) count *= (*this)[i];
    return count;
}

void Shape::push_back(int64_t extent) {
    PASTUR_CHECK(rank_ < kMaxRank, "a tensor has at most {} dimensions", kMaxRank);
    PASTUR_CHECK(extent >= 0, "extent {} in a shape", extent);
    extents_[static_cast<size_t>(rank_++)] = extent;
}

bool Shape::operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
        if ((*this)[i] != other[i]) return false;
    return true;
}

std::string to_string(const Shape& shape) {
    std::string text = "[";
    for (int i = 0; i < shape.rank(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
    return text + "]";
}

std::string describe(const ConstTensor& tensor) {
    if (tensor.empty()) return "no tensor";
    std::string text = name_of(tensor.dtype()) + to_string(tensor.shape());
    if (!tensor.contiguous()) text += " strides " + to_string(tensor.strides());
    return text;
}

RowCopy row_copy(const char* op, const ConstTensor& dst, const ConstTensor& src) {
    const auto copyable = [](const ConstTensor& tensor) {
        return tensor.contiguous() || (tensor.rank() == 2 && tensor.stride(1) == 1);
    };
    PASTUR_CHECK(dst.dtype() == src.dtype() && dst.numel() == src.numel() && copyable(dst) && copyable(src),
                 "{}: {} from {}", op, describe(dst), describe(src));
    if (dst.contiguous() && src.contiguous()) return {1, src.nbytes(), src.nbytes(), src.nbytes()};
    const ConstTensor& strided = dst.contiguous() ? src : dst;
    PASTUR_CHECK(dst.contiguous() || src.contiguous() || dst.shape() == src.shape(), "{}: {} from {}", op,
                 describe(dst), describe(src));
    const int64_t element = size_of(dst.dtype()), row = strided.size(1) * element;
    const auto pitch = [&](const ConstTensor& tensor) {
        return tensor.contiguous() ? row : tensor.stride(0) * element;
    };
    return {strided.size(0), row, pitch(dst), pitch(src)};
}

}  // namespace pastur
