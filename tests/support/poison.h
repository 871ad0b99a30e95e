#pragma once
// Device tensors of the tests: each lies between guard zones in an allocation of its own, and everything an
// op has no business writing is checked, bit by bit, when the tensor goes out of scope.
#include <span>
#include <string>
#include <vector>

#include "kernels/base/context.h"

namespace pastur::test {

/// Where the elements of a tensor lie, counted in elements from the end of the leading guard zone.
struct Layout {
    Shape shape, strides;
    int64_t offset = 0;
    Layout(Shape contiguous);  // NOLINT: a shape alone is a layout
    Layout(std::initializer_list<int64_t> contiguous) : Layout(Shape(contiguous)) {}
    Layout(Shape shape, Shape strides, int64_t offset) : shape(shape), strides(strides), offset(offset) {}
    /// Elements from the start to one past the last one.
    int64_t extent() const;
    std::string name() const;
};
/// Rows that are a slice of wider rows: `before` columns to the left of the last dimension, `after` to the
/// right.
Layout columns(Shape shape, int64_t before, int64_t after);

enum class Role {
    kInput,   ///< given values; the op must change nothing
    kOutput,  ///< NaN everywhere, so that an element the op forgets shows
    kInOut,   ///< given values; the op may change the elements of the view, and nothing around them
};

/// Guards, gaps between rows and unwritten outputs hold signalling NaNs: an op that reads them spreads NaN,
/// and one that writes them, even by adding, changes their bits (arithmetic quiets a signalling NaN).
class DeviceTensor {
  public:
    DeviceTensor(Context& ctx, DType dtype, const Layout& layout, Role role,
                 std::span<const double> values = {});
    /// Reports, as a test failure, every byte changed that should not have been.
    ~DeviceTensor();
    DeviceTensor(const DeviceTensor&) = delete;
    DeviceTensor& operator=(const DeviceTensor&) = delete;

    Tensor view() const { return view_; }
    operator Tensor() const { return view_; }       // NOLINT
    operator ConstTensor() const { return view_; }  // NOLINT
    const Shape& shape() const { return view_.shape(); }
    DType dtype() const { return view_.dtype(); }
    /// The view's numbers, in row-major order.
    std::vector<double> values() const;
    /// The view's bits, in row-major order.
    std::vector<std::byte> bits() const;

  private:
    std::vector<std::byte> image() const;
    std::string stray_write(const std::vector<std::byte>& now) const;

    Context& ctx_;
    Role role_;
    Buffer buffer_;
    Tensor view_;                     // on the device
    std::vector<int64_t> elements_;   // byte offsets of the view's elements in the allocation
    std::vector<std::byte> initial_;  // the whole allocation, guards and all
};

/// The dtype's value nearest to x, as a double.
double rounded(double x, DType dtype);

/// Fills a span of device memory with the dtype's signalling NaN.
void poison(Context& ctx, Tensor tensor);

}  // namespace pastur::test
