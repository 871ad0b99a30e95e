#include "kernels/columns.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace pastur {

void flatten_heads(CpuContext& ctx, Tensor out, ConstTensor x) {
    const int64_t time = x.size(1), heads = x.size(2), width = x.size(3);
    const float* from = x.data<float>();
    float* to = out.data<float>();
    parallel_for(ctx, out.size(0), out.size(1), [&](int64_t n) {
        const float* token = from + n / time * x.stride(0) + n % time * x.stride(1);
        for (int64_t h = 0; h < heads; ++h)
            std::copy_n(token + h * x.stride(2), width, to + n * out.stride(0) + h * width);
    });
}

void center_columns(CpuContext& ctx, Tensor x) {
    constexpr int64_t kPiece = 64;  ///< columns of one thread at a time
    const int64_t rows = x.size(0), width = x.size(1);
    float* data = x.data<float>();
    parallel_for_pieces(ctx, width, kPiece, 2 * rows, [&](int64_t begin, int64_t end) {
        std::vector<double> means(static_cast<size_t>(end - begin));
        for (int64_t n = 0; n < rows; ++n)
            for (int64_t i = begin; i < end; ++i)
                means[static_cast<size_t>(i - begin)] += data[n * width + i];
        for (double& mean : means) mean /= static_cast<double>(rows);
        for (int64_t n = 0; n < rows; ++n)
            for (int64_t i = begin; i < end; ++i) {
                float& number = data[n * width + i];
                number = static_cast<float>(number - means[static_cast<size_t>(i - begin)]);
            }
    });
}

}  // namespace pastur
