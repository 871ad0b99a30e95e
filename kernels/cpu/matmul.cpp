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
    parallel_gemm(ctx, {x.size(0), w.size(0), w.size(1), x.data<float>(), x.stride(0), false, w.data<float>(),
                        w.stride(0), true, residual.empty() ? 0.0f : 1.0f, y.data<float>(), y.stride(0)});
}

void linear_backward_input(CpuContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    parallel_gemm(ctx, {dy.size(0), w.size(1), w.size(0), dy.data<float>(), dy.stride(0), false,
                        w.data<float>(), w.stride(0), false, update == Update::kAccumulate ? 1.0f : 0.0f,
                        dx.data<float>(), dx.stride(0)});
}

void linear_backward_weight(CpuContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    parallel_gemm(ctx, {dw.size(0), dw.size(1), dy.size(0), dy.data<float>(), dy.stride(0), true,
                        x.data<float>(), x.stride(0), false, update == Update::kAccumulate ? 1.0f : 0.0f,
                        dw.data<float>(), dw.stride(0)});
}

}  // namespace pastur
