#include "engine/model/param_table.h"

#include <algorithm>

#include "kernels/base/memory.h"

namespace pastur {

Tensor Param::at(std::byte* data, DType dtype) const {
    if (!is_matrix()) return Tensor(data, dtype, shape);
    return Tensor(data, dtype, {shape[0], stored_columns}).slice(1, 0, shape[1]);
}

GroupId ParamTable::add_group(ParamGroup group) {
    PASTUR_CHECK(total_elements_ == 0, "parameter added after layout()");
    groups_.push_back(std::move(group));
    return GroupId{groups_.size() - 1};
}

GroupId ParamTable::add_matrix_group(const std::vector<Rows>& rows, int64_t columns, int64_t stored_columns) {
    ParamGroup group{};
    int64_t total = 0;
    if (stored_columns == 0) stored_columns = columns;
    for (const Rows& part : rows) {
        const int64_t stored = part.stored == 0 ? part.count : part.stored;
        PASTUR_CHECK(stored >= part.count && stored_columns >= columns, "{}: {} x {} stored in {} x {}",
                     part.name, part.count, columns, stored, stored_columns);
        group.members.push_back(params_.size());
        params_.push_back({part.name, {part.count, columns}, 0, stored, stored_columns});
        total += stored;
    }
    group.shape = {total, stored_columns};
    return add_group(std::move(group));
}

GroupId ParamTable::add_matrix(const std::string& name, int64_t rows, int64_t columns,
                               int64_t stored_columns) {
    return add_matrix_group({{name, rows}}, columns, stored_columns);
}

GroupId ParamTable::add_position_matrix(const std::string& name, int64_t rows, int64_t columns) {
    const GroupId id = add_matrix(name, rows, columns);
    params_.back().per_token = false;
    return id;
}

GroupId ParamTable::add_vector(const std::string& name, int64_t width, float initial) {
    params_.push_back({name, {width}, 0, 1, width, initial});
    return add_group({{params_.size() - 1}, {width}, 0});
}

void ParamTable::place(bool matrices, int64_t& offset) {
    for (ParamGroup& group : groups_) {
        if ((group.shape.rank() == 2) != matrices) continue;
        // Aligned in bytes for bf16, the narrowest buffer laid out by this table.
        offset = align_up(offset * 2) / 2;
        group.offset = offset;
        for (size_t member : group.members) {
            params_[member].offset = offset;
            offset += params_[member].stored();
        }
    }
    offset = align_up(offset * 2) / 2;
}

void ParamTable::layout() {
    int64_t offset = 0;
    place(true, offset);
    matrix_elements_ = offset;
    place(false, offset);
    total_elements_ = offset;
}

void ParamTable::pad(int64_t elements) {
    total_elements_ = (total_elements_ + elements - 1) / elements * elements;
}

const Param& ParamTable::named(const std::string& name) const {
    const auto found =
        std::find_if(params_.begin(), params_.end(), [&](const Param& param) { return param.name == name; });
    PASTUR_CHECK(found != params_.end(), "the model has no {}", name);
    return *found;
}

int64_t ParamTable::count() const {
    int64_t total = 0;
    for (const Param& param : params_) total += param.shape.numel();
    return total;
}

}  // namespace pastur
