#pragma once
// Device tensors for tests. Each has a separate allocation with guard zones around it. When the tensor goes
// out of scope, every byte that the op must not write is checked.
#include <span>
#include <string>
#include <vector>

#include "kernels/base/context.h"

namespace pastur::test {

/// Positions of a tensor's elements, in elements from the end of the leading guard zone.
struct Layout {
    Shape shape, strides;
    int64_t offset = 0;
    Layout(Shape contiguous);  // NOLINT: implicit, since a shape defines a contiguous layout
    Layout(std::initializer_list<int64_t> contiguous) : Layout(Shape(contiguous)) {}
    Layout(Shape shape, Shape strides, int64_t offset) : shape(shape), strides(strides), offset(offset) {}
    /// Number of elements from the start to one past the last element.
    int64_t extent() const;
    std::string name() const;
};
/// A slice of the columns of a wider tensor: `before` columns are to the left of the slice, `after` to its
/// right.
Layout columns(Shape shape, int64_t before, int64_t after);

enum class Role {
    kInput,   ///< has values; the op must not change it
    kOutput,  ///< NaN everywhere, so an element that the op does not write is found
    kInOut,   ///< has values; the op may change the view's elements and nothing else
};

/// Guard zones, gaps between rows and unwritten outputs hold signalling NaNs. An op that reads them returns
/// NaN. An op that writes them, even by adding, changes their bits, because arithmetic returns quiet NaNs.
class DeviceTensor {
  public:
    DeviceTensor(Context& ctx, DType dtype, const Layout& layout, Role role,
                 std::span<const double> values = {});
    /// Fails the test if a byte changed that must not change.
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
    std::vector<std::byte> initial_;  // contents of the whole allocation, with guard zones
};

/// The dtype's value nearest to x, as a double.
double rounded(double x, DType dtype);

/// Fills a span of device memory with the dtype's signalling NaN.
void poison(Context& ctx, Tensor tensor);

}  // namespace pastur::test
