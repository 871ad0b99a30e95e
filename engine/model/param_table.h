#pragma once
// The layout of all trained numbers, in one table: parameters, gradients, Adam states and compute copies are
// each one flat buffer, and every offset is read from the table.
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/tensor.h"

namespace pastur {

/// A tensor of the model under its Hugging Face name.
struct Param {
    std::string name;
    Shape shape;     ///< [out, in] for matrices, [n] for vectors
    int64_t offset;  ///< in elements, into each flat buffer; set by ParamTable::layout
    /// Rows and columns in memory: those of the matrix and its padding, which is zero.
    int64_t stored_rows = 1, stored_columns = 0;
    float initial = 1.0f;  ///< of a vector's numbers: 1 for a norm, 0 for a bias
    /// false: GEMMs multiply the matrix with a few positions, not with every token. Counts of FLOPs per token
    /// leave it out.
    bool per_token = true;
    bool is_matrix() const { return shape.rank() == 2; }
    int64_t stored() const { return stored_rows * stored_columns; }  ///< elements
    /// The tensor whose first element is at `data`; rows are strided where columns are padded.
    Tensor at(std::byte* data, DType dtype) const;
    /// The tensor in the flat f32 buffer that begins at `flat`.
    Tensor in(std::byte* flat) const { return at(flat + offset * size_of(DType::kF32), DType::kF32); }
};

/// Matrices that read the same input lie one behind the other and are used as one matrix [sum of rows, in].
struct ParamGroup {
    std::vector<size_t> members;  ///< indices into ParamTable::params(), in row order
    Shape shape;
    int64_t offset;
};

/// Elements [begin, begin + count) of the flat buffers.
struct FlatRange {
    int64_t begin, count;
    int64_t end() const { return begin + count; }
};

enum class GroupId : size_t {};

/// In the flat order matrices (normal initialisation, weight decay) come first, then vectors (Param::initial,
/// no decay).
class ParamTable {
  public:
    struct Rows {
        std::string name;
        int64_t count;
        int64_t stored = 0;  ///< 0: count
    };
    /// Several [rows, columns] matrices used as one. Padding to `stored` rows each and `stored_columns` (0:
    /// columns) belongs to the group's shape but to no parameter. It starts as zero, and a model must leave
    /// its gradient zero.
    GroupId add_matrix_group(const std::vector<Rows>& rows, int64_t columns, int64_t stored_columns = 0);
    GroupId add_matrix(const std::string& name, int64_t rows, int64_t columns, int64_t stored_columns = 0);
    /// A matrix with Param::per_token = false.
    GroupId add_position_matrix(const std::string& name, int64_t rows, int64_t columns);
    GroupId add_norm(const std::string& name, int64_t width) { return add_vector(name, width, 1.0f); }
    GroupId add_bias(const std::string& name, int64_t width) { return add_vector(name, width, 0.0f); }
    /// Assigns offsets. Nothing may be added afterwards.
    void layout();
    /// After layout(): makes the length of the flat buffers a multiple of `elements`.
    void pad(int64_t elements);

    const std::vector<Param>& params() const { return params_; }
    /// The parameter of this name, which must exist.
    const Param& named(const std::string& name) const;
    const std::vector<ParamGroup>& groups() const { return groups_; }
    const ParamGroup& group(GroupId id) const { return groups_[static_cast<size_t>(id)]; }
    /// Length of the range of matrices, which weight decay covers, with padding.
    int64_t matrix_elements() const { return matrix_elements_; }
    /// Length of each flat buffer, with padding.
    int64_t total_elements() const { return total_elements_; }
    /// Trained numbers, without padding.
    int64_t count() const;

  private:
    GroupId add_group(ParamGroup group);
    GroupId add_vector(const std::string& name, int64_t width, float initial);
    void place(bool matrices, int64_t& offset);
    std::vector<Param> params_;
    std::vector<ParamGroup> groups_;
    int64_t matrix_elements_ = 0, total_elements_ = 0;
};

}  // namespace pastur
