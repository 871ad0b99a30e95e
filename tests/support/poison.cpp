#include "tests/support/poison.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace pastur::test {
namespace {

constexpr int64_t kGuardBytes = 4096;  // a multiple of kAlignment, so tensors are aligned as in the engine

/// The bytes of a dtype's signalling NaN (for ids: of a very negative number), repeated to eight bytes.
uint64_t poison_bits(DType dtype) {
    switch (dtype) {
        case DType::kF32:
            return 0xFFA5A5A5'FFA5A5A5;
        case DType::kBF16:
            return 0xFFA5FFA5'FFA5FFA5;
        case DType::kF64:
            return 0xFFF5A5A5'A5A5A5A5;
        case DType::kI32:
            return 0x80A5A5A5'80A5A5A5;
        case DType::kF8E4M3:  // e4m3 has two NaNs: this one and the one that conversions give
            return 0xFFFFFFFF'FFFFFFFF;
    }
    return ~uint64_t{0};
}

/// The allocation is aligned to eight bytes, so the pattern is aligned with the elements.
std::vector<std::byte> poisoned(int64_t bytes, DType dtype) {
    std::vector<std::byte> image(static_cast<size_t>(bytes));
    const uint64_t bits = poison_bits(dtype);
    const auto* pattern = reinterpret_cast<const std::byte*>(&bits);
    for (size_t i = 0; i < image.size(); ++i) image[i] = pattern[i % sizeof(bits)];
    return image;
}

template <typename T>
void store(std::byte* at, T value) {
    std::memcpy(at, &value, sizeof(value));
}

template <typename T>
T load(const std::byte* at) {
    T value;
    std::memcpy(&value, at, sizeof(value));
    return value;
}

void encode(std::byte* at, DType dtype, double value) {
    switch (dtype) {
        case DType::kF32:
            store(at, static_cast<float>(value));
            break;
        case DType::kBF16:
            store(at, to_bf16(static_cast<float>(value)));
            break;
        case DType::kF64:
            store(at, value);
            break;
        case DType::kI32:
            store(at, static_cast<int32_t>(value));
            break;
        case DType::kF8E4M3:
            store(at, to_f8e4m3(static_cast<float>(value)));
            break;
    }
}

double decode(const std::byte* at, DType dtype) {
    switch (dtype) {
        case DType::kF32:
            return load<float>(at);
        case DType::kBF16:
            return to_float(load<Bf16>(at));
        case DType::kF64:
            return load<double>(at);
        case DType::kI32:
            return load<int32_t>(at);
        case DType::kF8E4M3:
            return to_float(load<F8E4M3>(at));
    }
    return NAN;
}

/// A tensor view of raw bytes, for copies.
Tensor raw(std::byte* data, int64_t bytes) {
    return Tensor(data, DType::kF8E4M3, {bytes});
}
ConstTensor raw(const std::byte* data, int64_t bytes) {
    return ConstTensor(data, DType::kF8E4M3, {bytes});
}

/// Byte offsets of all elements, in row-major order.
std::vector<int64_t> element_offsets(const Layout& layout, int64_t size) {
    std::vector<int64_t> offsets;
    const int64_t count = layout.shape.numel();
    offsets.reserve(static_cast<size_t>(count));
    for (int64_t flat = 0; flat < count; ++flat) {
        int64_t rest = flat, element = layout.offset;
        for (int i = layout.shape.rank() - 1; i >= 0; --i) {
            element += rest % layout.shape[i] * layout.strides[i];
            rest /= layout.shape[i];
        }
        offsets.push_back(kGuardBytes + element * size);
    }
    return offsets;
}

}  // namespace

Layout::Layout(Shape contiguous)
    : shape(contiguous), strides(ConstTensor(nullptr, DType::kF32, contiguous).strides()) {}

int64_t Layout::extent() const {
    if (shape.numel() == 0) return offset;
    int64_t last = offset;
    for (int i = 0; i < shape.rank(); ++i) last += (shape[i] - 1) * strides[i];
    return last + 1;
}

std::string Layout::name() const {
    return fmt::format("{} strides {} offset {}", to_string(shape), to_string(strides), offset);
}

Layout columns(Shape shape, int64_t before, int64_t after) {
    Shape strides = shape;
    int64_t stride = before + shape[shape.rank() - 1] + after;
    strides[shape.rank() - 1] = 1;
    for (int i = shape.rank() - 2; i >= 0; --i) {
        strides[i] = stride;
        stride *= shape[i];
    }
    return Layout(shape, strides, before);
}

DeviceTensor::DeviceTensor(Context& ctx, DType dtype, const Layout& layout, Role role,
                           std::span<const double> values)
    : ctx_(ctx), role_(role), elements_(element_offsets(layout, size_of(dtype))) {
    const bool given = role != Role::kOutput;
    PASTUR_CHECK(!given || values.size() == elements_.size(), "{} values for a tensor of {}", values.size(),
                 to_string(layout.shape));
    const int64_t bytes = kGuardBytes + layout.extent() * size_of(dtype) + kGuardBytes;
    initial_ = poisoned(bytes, dtype);
    for (size_t i = 0; given && i < elements_.size(); ++i)
        encode(&initial_[static_cast<size_t>(elements_[i])], dtype, values[i]);
    buffer_ = allocate(ctx, bytes);
    upload(ctx, raw(buffer_.data(), bytes), raw(std::as_const(initial_).data(), bytes));
    view_ = Tensor(buffer_.data() + kGuardBytes + layout.offset * size_of(dtype), dtype, layout.shape,
                   layout.strides);
}

DeviceTensor::~DeviceTensor() {
    try {
        const std::string stray = stray_write(image());
        if (!stray.empty()) ADD_FAILURE() << stray;
    } catch (const std::exception& error) {
        ADD_FAILURE() << "cannot read the guard zones: " << error.what();
    }
}

std::vector<std::byte> DeviceTensor::image() const {
    std::vector<std::byte> bytes(initial_.size());
    download(ctx_, raw(bytes.data(), buffer_.bytes()), raw(buffer_.data(), buffer_.bytes()));
    return bytes;
}

std::string DeviceTensor::stray_write(const std::vector<std::byte>& now) const {
    std::vector<std::byte> expected = initial_;
    if (role_ != Role::kInput)
        for (int64_t offset : elements_)
            std::memcpy(&expected[static_cast<size_t>(offset)], &now[static_cast<size_t>(offset)],
                        static_cast<size_t>(size_of(dtype())));
    int64_t changed = 0, first = -1;
    for (size_t i = 0; i < now.size(); ++i) {
        if (now[i] == expected[i]) continue;
        if (first < 0) first = static_cast<int64_t>(i);
        ++changed;
    }
    if (changed == 0) return {};
    const int64_t start = view_.bytes() - buffer_.data();
    return fmt::format(
        "{}: {} bytes changed that no op may write ({}), the first at element {} from the view's first",
        describe(view_), changed, role_ == Role::kInput ? "an input" : "guard zones or gaps between rows",
        (first - start) / size_of(dtype()));
}

std::vector<double> DeviceTensor::values() const {
    const std::vector<std::byte> bytes = image();
    std::vector<double> numbers;
    numbers.reserve(elements_.size());
    for (int64_t offset : elements_) numbers.push_back(decode(&bytes[static_cast<size_t>(offset)], dtype()));
    return numbers;
}

std::vector<std::byte> DeviceTensor::bits() const {
    const std::vector<std::byte> bytes = image();
    std::vector<std::byte> packed;
    packed.reserve(elements_.size() * static_cast<size_t>(size_of(dtype())));
    for (int64_t offset : elements_)
        packed.insert(packed.end(), bytes.begin() + offset, bytes.begin() + offset + size_of(dtype()));
    return packed;
}

double rounded(double x, DType dtype) {
    std::byte storage[8];
    encode(storage, dtype, x);
    return decode(storage, dtype);
}

void poison(Context& ctx, Tensor tensor) {
    if (tensor.numel() == 0) return;
    const std::vector<std::byte> image = poisoned(tensor.nbytes(), tensor.dtype());
    upload(ctx, raw(tensor.bytes(), tensor.nbytes()), raw(image.data(), tensor.nbytes()));
}

}  // namespace pastur::test
