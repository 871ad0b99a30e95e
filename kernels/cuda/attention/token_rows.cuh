#pragma once
// The rows of one (sequence, head) in memory.
#include "kernels/cuda/attention/params.h"

namespace pastur::attention {

/// The rows of one (sequence, head): token t holds [content | rotary], each part with its own address and
/// stride. A key and the rotary key shared by all heads become one row here.
template <typename T>
struct TokenRows {
    T* content;
    T* rotary;
    int content_stride, rotary_stride;
    int content_width, width;  ///< width: of both parts

    /// One column of the rows: its address in token 0, and the stride between tokens.
    struct Column {
        T* data;
        int stride;
        __device__ T* at(int token) const { return data + static_cast<int64_t>(token) * stride; }
    };
    __device__ Column column(int column) const {
        if (column < content_width) return {content + column, content_stride};
        return {rotary + (column - content_width), rotary_stride};
    }
};

template <typename T>
__device__ TokenRows<T> token_rows(const HeadView<T>& view, int batch, int head, int width) {
    T* rows = view.at(batch, head);
    return {rows, rows, view.token, view.token, width, width};
}

template <typename T>
__device__ TokenRows<T> token_rows(const HeadView<T>& content, int width, const HeadView<T>& rotary,
                                   int rotary_width, int batch, int head) {
    return {content.at(batch, head), rotary.at(batch, head), content.token, rotary.token, width,
            width + rotary_width};
}

}  // namespace pastur::attention
