// Quantisation is bit-identical to the GPU's. GEMMs dequantise their operands and multiply in fp32.
#include "kernels/fp8.h"

#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/fp8_scale.h"
#include "kernels/matmul.h"

namespace pastur {
namespace {

/// Quantises x[0], x[step], x[2 step], ... into one row of out.
void quantize_row(const Fp8Rows& out, int64_t row, const float* x, int64_t step) {
    const int64_t width = out.width();
    auto* values = out.values.data<F8E4M3>() + row * width;
    float largest = 0;
    for (int64_t i = 0; i < width; ++i) largest = std::fmax(largest, std::fabs(x[i * step]));
    const Fp8Scale scale(largest);
    for (int64_t i = 0; i < width; ++i) values[i] = to_f8e4m3(x[i * step] * scale.inverse);
    out.scales.data<float>()[row] = scale.scale;
}

/// out = values scales.
void dequantize(CpuContext& ctx, const Tensor& out, const ConstFp8Rows& rows) {
    const int64_t width = rows.width();
    parallel_for(ctx, rows.rows(), 8 * width, [&](int64_t n) {
        const auto* values = rows.values.data<F8E4M3>() + n * width;
        const float scale = rows.scales.data<float>()[n];
        float* to = out.data<float>() + n * width;
        for (int64_t i = 0; i < width; ++i) to[i] = to_float(values[i]) * scale;
    });
}

}  // namespace

void quantize_rows(CpuContext& ctx, const Fp8Rows& out, ConstTensor x) {
    parallel_for(ctx, x.size(0), 16 * x.size(1),
                 [&](int64_t n) { quantize_row(out, n, x.data<float>() + n * x.stride(0), 1); });
}

void quantize_columns(CpuContext& ctx, const Fp8Rows& out, ConstTensor x) {
    parallel_for(ctx, x.size(1), 16 * x.size(0),
                 [&](int64_t i) { quantize_row(out, i, x.data<float>() + i, x.stride(0)); });
}

void fp8_gemm(CpuContext& ctx, const Fp8Gemm& p) {
    Arena::Frame frame(ctx.scratch(), "fp8_gemm");
    const Tensor x = frame.take(DType::kF32, p.x.values.shape());
    const Tensor w = frame.take(DType::kF32, p.w.values.shape());
    dequantize(ctx, x, p.x);
    dequantize(ctx, w, p.w);
    linear_forward(ctx, p.y, x, w, p.addend);
}

int64_t fp8_gemm_scratch_bytes(CpuContext&, int64_t rows, int64_t out, int64_t in) {
    return align_up(rows * in * size_of(DType::kF32)) + align_up(out * in * size_of(DType::kF32));
}

bool has_fp8(CpuContext&) {
    return true;
}

}  // namespace pastur
