#include "kernels/attention/document_bounds.h"

#include <algorithm>

namespace pastur {

void find_documents(CpuContext&, Tensor first_key, Tensor query_end, ConstTensor tokens, int32_t separator) {
    const int64_t time = first_key.size(1);
    for (int64_t b = 0; b < first_key.size(0); ++b) {
        const int32_t* ids = tokens.data<int32_t>() + b * time;
        int32_t* first = first_key.data<int32_t>() + b * time;
        int32_t* end = query_end.data<int32_t>() + b * time;
        for (int64_t begin = 0, next = 0; begin < time; begin = next) {
            const int32_t* const last = std::find(ids + begin, ids + time, separator);
            next = std::min(last - ids + 1, time);
            std::fill(first + begin, first + next, static_cast<int32_t>(begin));
            std::fill(end + begin, end + next, static_cast<int32_t>(next));
        }
    }
}

}  // namespace pastur
