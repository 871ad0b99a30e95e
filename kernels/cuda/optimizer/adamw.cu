#include "kernels/optimizer/adamw.h"

#include <cmath>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/numeric.cuh"
#include "kernels/cuda/optimizer/rounded_store.cuh"

namespace pastur {

namespace {

constexpr int kThreads = 256;

template <typename Moment, typename Weight>
struct AdamwKernelParams {
    using Compute = std::conditional_t<std::is_same_v<Weight, float>, bf16, float>;
    Weight* param;
    Moment *m, *v;
    Compute* compute;  ///< may be null
    const float* grad;
    const double* sums;  ///< the first is the sum of squares of all gradients
    int sum_count;
    int64_t count;
    float lr, beta1, beta2, eps, weight_decay;
    float correction1, correction2;  ///< 1 / (1 - beta^step)
    float max_norm;                  ///< 0: no clipping
    int64_t step;
    RoundingParams rounding;
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
template <typename Params>
__device__ void update_element(const Params& p, float& param, float& m, float& v, float grad, float clip) {
    const float g = grad * clip;
    m = p.beta1 * m + (1.0f - p.beta1) * g;
    v = p.beta2 * v + (1.0f - p.beta2) * g * g;
    const float direction = __fdividef(m * p.correction1, fast_sqrt(v * p.correction2) + p.eps);
    param -= p.lr * (direction + p.weight_decay * param);
}

/// Updates elements first to first + kWidth - 1, which are loaded.
template <int kWidth, typename Moment, typename Weight>
__device__ void update_pack(const AdamwKernelParams<Moment, Weight>& p, int64_t first, float clip,
                            const Packed<Weight, kWidth>& param, const Packed<Moment, kWidth>& m,
                            const Packed<Moment, kWidth>& v, const Packed<float, kWidth>& grad) {
    float new_param[kWidth], new_m[kWidth], new_v[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
        new_param[i] = param[i], new_m[i] = m[i], new_v[i] = v[i];
        update_element(p, new_param[i], new_m[i], new_v[i], grad[i], clip);
    }
    const int64_t element = p.rounding.first_element + first;
    const auto stored = store_rounded(number_rounding(p.rounding, p.step, RoundedNumber::kParam),
                                      p.param + first, new_param, element);
    store_rounded(number_rounding(p.rounding, p.step, RoundedNumber::kFirstMoment), p.m + first, new_m,
                  element);
    store_rounded(number_rounding(p.rounding, p.step, RoundedNumber::kSecondMoment), p.v + first, new_v,
                  element);
    using Compute = typename AdamwKernelParams<Moment, Weight>::Compute;
    if (p.compute) Packed<Compute, kWidth>::of([&](int i) { return stored[i]; }).store(p.compute + first);
}

/// A thread owns kWidth consecutive elements and processes them one by one if they reach beyond the end.
/// Each block derives the clipping factor from the sum of squares while its loads are in flight, and changes
/// nothing unless adamw_accepts the sums. param, m, v updated in place; compute =. All arrays are aligned for
/// Packed<., kWidth>.
template <int kWidth, typename Moment, typename Weight>
__global__ void __launch_bounds__(kThreads) adamw_kernel(AdamwKernelParams<Moment, Weight> p) {
    __shared__ float shared_clip;
    if (!adamw_accepts(p.sums, p.sum_count, p.max_norm)) return;
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
    const bool whole = first + kWidth <= p.count;
    Packed<Weight, kWidth> param;
    Packed<Moment, kWidth> m, v;
    Packed<float, kWidth> grad;
    if (whole) {
        param = Packed<Weight, kWidth>::load(p.param + first), m = Packed<Moment, kWidth>::load(p.m + first);
        v = Packed<Moment, kWidth>::load(p.v + first), grad = Packed<float, kWidth>::load(p.grad + first);
    }
    if (threadIdx.x == 0) shared_clip = clip_factor(p.sums[0], p.max_norm);
    __syncthreads();
    const float clip = shared_clip;

    if (whole) {
        update_pack<kWidth>(p, first, clip, param, m, v, grad);
    } else {
        for (int64_t i = first; i < p.count; ++i)
            update_pack<1>(p, i, clip, Packed<Weight, 1>::load(p.param + i), Packed<Moment, 1>::load(p.m + i),
                           Packed<Moment, 1>::load(p.v + i), Packed<float, 1>::load(p.grad + i));
    }
}

float bias_correction(float beta, int64_t step) {
    return static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta), static_cast<double>(step))));
}

template <typename Moment, typename Weight>
void run_adamw(CudaContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
               ConstTensor sums, const AdamwParams& params) {
    using Params = AdamwKernelParams<Moment, Weight>;
    const Params kernel_params{
        .param = device_data<Weight>(param),
        .m = device_data<Moment>(m),
        .v = device_data<Moment>(v),
        .compute = compute.empty() ? nullptr : device_data<typename Params::Compute>(compute),
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
        .step = params.step,
        .rounding = params.rounding,
    };
    const auto run = [&]<int kWidth>() {
        launch(ctx, ceil_div(param.numel(), kThreads * kWidth), kThreads, 0,
               adamw_kernel<kWidth, Moment, Weight>, kernel_params);
    };
    static_assert(kVector<bf16> == kElementsPerBlock);
    if (allows_vectors(param) && allows_vectors(m) && allows_vectors(v) && allows_vectors(grad) &&
        allows_vectors(compute) && params.rounding.first_element % kElementsPerBlock == 0)
        run.template operator()<kVector<bf16>>();
    else
        run.template operator()<1>();
}

}  // namespace

void adamw_step(CudaContext& ctx, Tensor param, Tensor m, Tensor v, Tensor compute, ConstTensor grad,
                ConstTensor sums, const AdamwParams& params) {
    visit_float_type(m.dtype(), [&]<typename Moment>() {
        visit_float_type(param.dtype(), [&]<typename Weight>() {
            run_adamw<Moment, Weight>(ctx, param, m, v, compute, grad, sums, params);
        });
    });
}

}  // namespace pastur
