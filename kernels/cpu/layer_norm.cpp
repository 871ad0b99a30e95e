#include "kernels/layer_norm.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/reciprocal_rms.h"

namespace pastur {
namespace {

/// Rows in one partial sum of dweight and dbias. The number is fixed, so the order of summation does not
/// depend on the threads.
constexpr int64_t kRowsPerPartial = 64;

int64_t partials(int64_t rows) {
    return std::max<int64_t>((rows + kRowsPerPartial - 1) / kRowsPerPartial, 1);
}

/// to = or += the sum over i of from[i 2 width + c].
void sum_partials(float* to, Update update, const float* from, int64_t count, int64_t width) {
    if (update == Update::kAssign) std::fill_n(to, width, 0.0f);
    for (int64_t i = 0; i < count; ++i)
        for (int64_t c = 0; c < width; ++c) to[c] += from[i * 2 * width + c];
}

}  // namespace

void layer_norm_forward(CpuContext& ctx, Tensor out, Tensor mean, Tensor rstd, ConstTensor x,
                        ConstTensor weight, ConstTensor bias, float eps) {
    const int64_t width = x.size(1);
    const float *w = weight.data<float>(), *b = bias.data<float>();
    parallel_for(ctx, x.size(0), 6 * width, [&](int64_t n) {
        const float* row = x.data<float>() + n * x.stride(0);
        float* to = out.data<float>() + n * out.stride(0);
        float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < width; ++c) sum += row[c];
        const float centre = sum / static_cast<float>(width);
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < width; ++c) squares += (row[c] - centre) * (row[c] - centre);
        const float r = reciprocal_rms(squares / static_cast<float>(width), eps);
        for (int64_t c = 0; c < width; ++c) to[c] = (row[c] - centre) * r * w[c] + b[c];
        mean.data<float>()[n] = centre;
        rstd.data<float>()[n] = r;
    });
}

/// xhat = (x - mean) r has dxhat = r (dx - mean dx - xhat mean(xhat dx)), which is symmetric: with g = w dy,
/// dx = r (g - mean g - xhat mean(xhat g)), dweight = sum_n dy xhat and dbias = sum_n dy.
void layer_norm_backward(CpuContext& ctx, const LayerNormBackward& p) {
    const int64_t rows = p.x.size(0), width = p.x.size(1);
    const float* w = p.weight.data<float>();
    Arena::Frame frame(ctx.scratch(), "layer_norm_backward");
    float* partial = frame.take(DType::kF32, {partials(rows), 2, width}).data<float>();
    if (rows == 0) std::fill_n(partial, 2 * width, 0.0f);

    parallel_for_pieces(ctx, rows, kRowsPerPartial, 12 * width, [&](int64_t begin, int64_t end) {
        float* dweight = partial + begin / kRowsPerPartial * 2 * width;
        float* dbias = dweight + width;
        std::fill_n(dweight, 2 * width, 0.0f);
        for (int64_t n = begin; n < end; ++n) {
            const float* x_row = p.x.data<float>() + n * p.x.stride(0);
            const float* dy_row = p.dy.data<float>() + n * p.dy.stride(0);
            float* dx_row = p.dx.data<float>() + n * p.dx.stride(0);
            const float centre = p.mean.data<float>()[n], r = p.rstd.data<float>()[n];
            float sum = 0, projection = 0;
#pragma omp simd reduction(+ : sum, projection)
            for (int64_t c = 0; c < width; ++c) {
                const float g = dy_row[c] * w[c];
                sum += g;
                projection += g * (x_row[c] - centre) * r;
            }
            const float constant = sum / static_cast<float>(width);
            const float along = projection / static_cast<float>(width);
            for (int64_t c = 0; c < width; ++c) {
                const float dy = dy_row[c], xhat = (x_row[c] - centre) * r;
                dweight[c] += dy * xhat;
                dbias[c] += dy;
                dx_row[c] = (w[c] * dy - constant - xhat * along) * r;
            }
        }
    });
    sum_partials(p.dweight.data<float>(), p.update, partial, partials(rows), width);
    sum_partials(p.dbias.data<float>(), p.update, partial + width, partials(rows), width);
}

int64_t layer_norm_backward_scratch_bytes(CpuContext&, int64_t rows, int64_t width) {
    return align_up(partials(rows) * 2 * width * size_of(DType::kF32));
}

}  // namespace pastur
