#pragma once
// Which keys a query sees (AttentionInputs::stride, AttentionInputs::documents).
#include <algorithm>
#include <cstdint>

#include "kernels/attention/document_bounds.h"

namespace pastur {

/// First keys of the queries of one sequence: 0 without masked documents.
struct FirstKeys {
    const int32_t* keys;  ///< [T], or null
    FirstKeys(const DocumentBounds& documents, int64_t b)
        : keys(documents.empty() ? nullptr
                                 : documents.first_key.data<int32_t>() + b * documents.first_key.size(1)) {}
    int64_t of(int64_t query) const { return keys ? keys[query] : 0; }
};

/// The keys that a query sees, in ascending order.
struct VisibleKeys {
    int64_t query, stride;
    int64_t first = 0;  ///< DocumentBounds::first_key
    /// Keys n with (n + 1) mod stride = 0.
    int64_t merged() const { return (query + 1) / stride - first / stride; }
    int64_t count() const { return merged() + ((query + 1) % stride == 0 ? 0 : 1); }
    int64_t operator[](int64_t i) const {
        return i < merged() ? (first / stride + i + 1) * stride - 1 : query;
    }

    /// In place: the numbers of the visible keys become the first of the row, which begins with that of key `origin`.
    void gather(float* row, int64_t origin) const {
        if (stride == 1 && first == origin) return;
        for (int64_t i = 0; i < count(); ++i) row[i] = row[(*this)[i] - origin];
    }
    /// In place: undoes gather() and sets the numbers of all other keys before `end` to 0.
    void scatter(float* row, int64_t origin, int64_t end) const {
        float* last = row + (end - origin);
        if (stride == 1) {
            if (first > origin) std::copy_backward(row, row + count(), row + (query + 1 - origin));
            std::fill(row, row + (first - origin), 0.0f);
            std::fill(row + (query + 1 - origin), last, 0.0f);
            return;
        }
        for (int64_t i = count() - 1; i >= 0; --i) {
            float* const to = row + ((*this)[i] - origin);
            const float number = row[i];
            std::fill(to + 1, last, 0.0f);
            *to = number;
            last = to;
        }
        std::fill(row, last, 0.0f);
    }
};

}  // namespace pastur
