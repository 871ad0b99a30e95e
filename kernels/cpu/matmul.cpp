#include "kernels/matmul.h"

#include <cstring>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/parallel.h"

namespace pastur {

void linear_forward(CpuContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    if (!residual.empty() && residual.bytes() != y.bytes()) {
        const auto* from = residual.data<float>();
        auto* to = y.data<float>();
        parallel_for(ctx, y.size(0), y.size(1), [&](int64_t n) {
            std::memcpy(to + n * y.stride(0), from + n * residual.stride(0),
                        static_cast<size_t>(y.size(1)) * sizeof(float));
        });
    }
    parallel_gemm(ctx, {.m = x.size(0),
                        .n = w.size(0),
                        .k = w.size(1),
                        .a = x.data<float>(),
                        .lda = x.stride(0),
                        .transpose_a = false,
                        .b = w.data<float>(),
                        .ldb = w.stride(0),
                        .transpose_b = true,
                        .beta = residual.empty() ? 0.0f : 1.0f,
                        .c = y.data<float>(),
                        .ldc = y.stride(0)});
}

void linear_backward_input(CpuContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    parallel_gemm(ctx, {.m = dy.size(0),
                        .n = w.size(1),
                        .k = w.size(0),
                        .a = dy.data<float>(),
                        .lda = dy.stride(0),
                        .transpose_a = false,
                        .b = w.data<float>(),
                        .ldb = w.stride(0),
                        .transpose_b = false,
                        .beta = update == Update::kAccumulate ? 1.0f : 0.0f,
                        .c = dx.data<float>(),
                        .ldc = dx.stride(0)});
}

void linear_backward_weight(CpuContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    parallel_gemm(ctx, {.m = dw.size(0),
                        .n = dw.size(1),
                        .k = dy.size(0),
                        .a = dy.data<float>(),
                        .lda = dy.stride(0),
                        .transpose_a = true,
                        .b = x.data<float>(),
                        .ldb = x.stride(0),
                        .transpose_b = false,
                        .beta = update == Update::kAccumulate ? 1.0f : 0.0f,
                        .c = dw.data<float>(),
                        .ldc = dw.stride(0)});
}

}  // namespace pastur
