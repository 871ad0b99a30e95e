#include "kernels/adamw.h"

#include <cmath>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;

struct AdamwKernelParams {
    float *param, *m, *v;
    bf16* compute;  ///< may be null
    const float* grad;
    const double* sums;  ///< the first is the sum of squares of all gradients
    int sum_count;
    int64_t count;
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2;  ///< 1 / (1 - beta^step)
    float max_norm;                  ///< 0: no clipping
};

/// Square root to 2 ulp without a branch. The correctly rounded one takes its slow path for 0, which is the
/// value of v for tokens that have not occurred in any batch yet.
__device__ float fast_sqrt(float x) {
    float y;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// g = grad clip; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// param -= lr (m correction1 / (sqrt(v correction2) + eps) + weight_decay param).
__device__ void update_element(const AdamwKernelParams& p, float& param, float& m, float& v, float grad,
                               float clip) {
    const float g = grad * clip;
    m = p.beta1 * m + (1.0f - p.beta1) * g;
    v = p.beta2 * v + (1.0f - p.beta2) * g * g;
    const float direction = __fdividef(m * p.correction1, fast_sqrt(v * p.correction2) + p.eps);
    param -= p.lr * (direction + p.weight_decay * param);
}

/// A thread owns kWidth consecutive elements and processes them one by one if they reach beyond the end.
/// Each block derives the clipping factor from the sum of squares while its loads are in flight, and changes
/// nothing unless adamw_accepts the sums. param, m, v
/// updated in place; compute =. All arrays are aligned for Packed<., kWidth>.
template <int kWidth>
__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamwKernelParams p) {
    using Floats = Packed<float, kWidth>;
    __shared__ float shared_clip;
    if (!adamw_accepts(p.sums, p.sum_count, p.max_norm)) return;
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
    const bool whole = first + kWidth <= p.count;
    Floats param, m, v, grad;
    if (whole) {
        param = Floats::load(p.param + first), m = Floats::load(p.m + first);
        v = Floats::load(p.v + first), grad = Floats::load(p.grad + first);
    }
    if (threadIdx.x == 0) shared_clip = clip_factor(p.sums[0], p.max_norm);
    __syncthreads();
    const float clip = shared_clip;

    if (whole) {
        float new_param[kWidth], new_m[kWidth], new_v[kWidth];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            new_param[i] = param[i], new_m[i] = m[i], new_v[i] = v[i];
            update_element(p, new_param[i], new_m[i], new_v[i], grad[i], clip);
        }
        Floats::of([&](int i) { return new_param[i]; }).store(p.param + first);
        Floats::of([&](int i) { return new_m[i]; }).store(p.m + first);
        Floats::of([&](int i) { return new_v[i]; }).store(p.v + first);
        if (p.compute) Packed<bf16, kWidth>::of([&](int i) { return new_param[i]; }).store(p.compute + first);
    } else {
        for (int64_t i = first; i < p.count; ++i) {
            update_element(p, p.param[i], p.m[i], p.v[i], p.grad[i], clip);
            if (p.compute) p.compute[i] = from_float<bf16>(p.param[i]);
        }
    }
}

float bias_correction(float beta, int64_t step) {
    return static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta), static_cast<double>(step))));
}

}  // namespace

void adamw_step(CudaContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params) {
    const AdamwKernelParams kernel_params{
        .param = param.data<float>(),
        .m = m.data<float>(),
        .v = v.data<float>(),
        .compute = compute.empty() ? nullptr : device_data<bf16>(compute),
        .grad = grad.data<float>(),
        .sums = sums.data<double>(),
        .sum_count = static_cast<int>(sums.numel()),
        .count = param.numel(),
        .lr = params.lr,
        .beta1 = params.beta1,
        .beta2 = params.beta2,
        .eps = params.eps,
        .weight_decay = params.weight_decay,
        .correction1 = bias_correction(params.beta1, params.step),
        .correction2 = bias_correction(params.beta2, params.step),
        .max_norm = params.max_norm,
    };
    const auto run = [&]<int kWidth>() {
        launch(ctx, ceil_div(param.numel(), kThreads * kWidth), kThreads, 0, adamw_kernel<kWidth>,
               kernel_params);
    };
    if (allows_vectors(param) && allows_vectors(m) && allows_vectors(v) && allows_vectors(grad) &&
        allows_vectors(compute))
        run.template operator()<kVector<bf16>>();
    else
        run.template operator()<1>();
}

}  // namespace pastur
