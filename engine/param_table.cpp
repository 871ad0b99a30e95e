#include "engine/param_table.h"

#include "kernels/memory.h"

namespace pastur {

GroupId ParamTable::add_group(ParamGroup group) {
    PASTUR_CHECK(total_elements_ == 0, "parameter added after layout()");
    groups_.push_back(std::move(group));
    return GroupId{groups_.size() - 1};
}

GroupId ParamTable::add_matrix_group(const std::vector<Rows>& rows, int64_t columns) {
    ParamGroup group{};
    int64_t total = 0;
    for (const Rows& part : rows) {
        group.members.push_back(params_.size());
        params_.push_back({part.name, {part.count, columns}, 0});
        total += part.count;
    }
    group.shape = {total, columns};
    return add_group(std::move(group));
}

GroupId ParamTable::add_matrix(const std::string& name, int64_t rows, int64_t columns) {
    return add_matrix_group({{name, rows}}, columns);
}

GroupId ParamTable::add_norm(const std::string& name, int64_t width) {
    params_.push_back({name, {width}, 0});
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
            offset += params_[member].shape.numel();
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

int64_t ParamTable::count() const {
    int64_t total = 0;
    for (const Param& param : params_) total += param.shape.numel();
    return total;
}

}  // namespace pastur
