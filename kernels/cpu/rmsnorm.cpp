#include "kernels/rmsnorm.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/fp8.h"
#include "kernels/reciprocal_rms.h"

namespace pastur {
namespace {

/// Rows in one partial sum of dweight. The number is fixed, so the order of summation does not depend on the
/// threads.
constexpr int64_t kRowsPerPartial = 64;

int64_t partials(int64_t rows) {
    return (rows + kRowsPerPartial - 1) / kRowsPerPartial;
}

/// Row n of x [N, C] or [N, H, C].
template <typename Byte>
auto* row_of(const TensorView<Byte>& x, int64_t n) {
    auto* const first = x.template data<float>();
    if (x.rank() == 2) return first + n * x.stride(0);
    return first + n / x.size(1) * x.stride(0) + n % x.size(1) * x.stride(1);
}

}  // namespace

void rmsnorm_forward(CpuContext& ctx, Tensor out, Tensor rstd, ConstTensor x, ConstTensor weight, float eps,
                     const Fp8Rows& quantized, float gain) {
    const int64_t width = x.size(-1);
    const float* w = weight.data<float>();
    float* rstd_of = rstd.data<float>();
    parallel_for(ctx, x.numel() / width, 4 * width, [&](int64_t n) {
        const float* row = row_of(x, n);
        float* to = row_of(out, n);
        float squares = 0;
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < width; ++c) squares += row[c] * row[c];
        const float r = reciprocal_rms(squares / static_cast<float>(width), eps);
        const float factor = r * gain;
        for (int64_t c = 0; c < width; ++c) to[c] = row[c] * factor * w[c];
        rstd_of[n] = r;
    });
    if (!quantized.empty()) quantize_rows(ctx, quantized, out);
}

/// out = x r w and r = (mean x^2 + eps)^(-1/2), so dr = -r^3 mean(x dx). With g = w dy and xhat = x r,
/// dx = r (g - xhat mean(g xhat)) and dweight = sum_n dy xhat. The gain, 1 here, scales out and so both
/// gradients.
/// dx = (plus dresidual); dweight = or +=; out =.
void rmsnorm_backward(CpuContext& ctx, const RmsnormBackward& p) {
    const int64_t width = p.x.size(-1), rows = p.x.numel() / width;
    const float* w = p.weight.data<float>();
    Arena::Frame frame(ctx.scratch(), "rmsnorm_backward");
    float* partial = frame.take(DType::kF32, {std::max<int64_t>(partials(rows), 1), width}).data<float>();

    parallel_for_pieces(ctx, rows, kRowsPerPartial, 8 * width, [&](int64_t begin, int64_t end) {
        float* sums = partial + begin / kRowsPerPartial * width;
        std::fill_n(sums, width, 0.0f);
        for (int64_t n = begin; n < end; ++n) {
            const float* x_row = row_of(p.x, n);
            const float* dy_row = row_of(p.dy, n);
            const float* residual_row = p.dresidual.empty() ? nullptr : row_of(p.dresidual, n);
            float* dx_row = row_of(p.dx, n);
            float* out_row = p.out.empty() ? nullptr : row_of(p.out, n);
            const float r = p.rstd.data<float>()[n], factor = r * p.gain;
            float projection = 0;
#pragma omp simd reduction(+ : projection)
            for (int64_t c = 0; c < width; ++c) projection += dy_row[c] * w[c] * x_row[c];
            const float along = projection * r * r / static_cast<float>(width);
            for (int64_t c = 0; c < width; ++c) {
                const float normal = (w[c] * dy_row[c] - x_row[c] * along) * factor;
                sums[c] += dy_row[c] * x_row[c] * factor;
                dx_row[c] = residual_row ? residual_row[c] + normal : normal;
            }
            if (!out_row) continue;
            for (int64_t c = 0; c < width; ++c) out_row[c] = x_row[c] * factor * w[c];
        }
    });

    float* dw = p.dweight.data<float>();
    if (p.dweight_update == Update::kAssign) std::fill_n(dw, width, 0.0f);
    for (int64_t i = 0; i < partials(rows); ++i)
        for (int64_t c = 0; c < width; ++c) dw[c] += partial[i * width + c];
    if (!p.quantized_dx.empty()) quantize_rows(ctx, p.quantized_dx, p.dx);
}

int64_t rmsnorm_backward_scratch_bytes(CpuContext&, int64_t rows, int64_t width) {
    return align_up(std::max<int64_t>(partials(rows), 1) * width * size_of(DType::kF32));
}

}  // namespace pastur
