#pragma once
// Which keys a query sees (AttentionInputs::stride).
#include <algorithm>
#include <cstdint>

namespace pastur {

/// The keys that a query sees, in ascending order.
struct VisibleKeys {
    int64_t query, stride;
    int64_t merged() const { return (query + 1) / stride; }  ///< keys n with (n + 1) mod stride = 0
    int64_t count() const { return merged() + (merged() * stride <= query ? 1 : 0); }
    int64_t operator[](int64_t i) const { return i < merged() ? (i + 1) * stride - 1 : query; }

    /// In place: the numbers of the visible keys become the first of the row.
    void gather(float* row) const {
        if (stride == 1) return;
        for (int64_t i = 0; i < count(); ++i) row[i] = row[(*this)[i]];
    }
    /// In place: undoes gather() and sets the numbers of all other keys before `end` to 0.
    void scatter(float* row, int64_t end) const {
        for (int64_t i = count() - 1; stride > 1 && i >= 0; --i) {
            const int64_t key = (*this)[i];
            const float number = row[i];
            std::fill(row + key + 1, row + end, 0.0f);
            row[key] = number;
            end = key;
        }
        std::fill(row + (stride > 1 ? 0 : query + 1), row + end, 0.0f);
    }
};

}  // namespace pastur
