// One query of one head after the other, each against all entries that it sees.
#include "kernels/attention/decode_attention.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

float dot(const float* x, const float* y, int64_t width) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; ++i) sum += x[i] * y[i];
    return sum;
}

void head_attention(Tensor out, const DecodeInputs& in, int64_t b, int64_t h, std::vector<float>& p) {
    const int64_t kv = h / (in.q.size(1) / in.k.size(2)), content = in.q.size(2), value = in.v.size(3);
    const int64_t rotary = in.q_shared.empty() ? 0 : in.q_shared.size(2);
    const int64_t length = in.lengths.data<int32_t>()[b];
    const float* q = in.q.data<float>() + b * in.q.stride(0) + h * in.q.stride(1);
    const float* k = in.k.data<float>() + b * in.k.stride(0) + kv * in.k.stride(2);
    const float* v = in.v.data<float>() + b * in.v.stride(0) + kv * in.v.stride(2);
    p.resize(static_cast<size_t>(length));
    for (int64_t j = 0; j < length; ++j)
        p[static_cast<size_t>(j)] = in.scale * dot(q, k + j * in.k.stride(1), content);
    if (rotary > 0) {
        const float* q_shared =
            in.q_shared.data<float>() + b * in.q_shared.stride(0) + h * in.q_shared.stride(1);
        const float* k_shared = in.k_shared.data<float>() + b * in.k_shared.stride(0);
        for (int64_t j = 0; j < length; ++j)
            p[static_cast<size_t>(j)] +=
                in.scale * dot(q_shared, k_shared + j * in.k_shared.stride(1), rotary);
    }
    const Softmax softmax = softmax_of<true>(p.data(), length, p.data());
    float* o = out.data<float>() + b * out.stride(0) + h * out.stride(1);
    std::fill_n(o, value, 0.0f);
    for (int64_t j = 0; j < length; ++j) {
        const float weight = p[static_cast<size_t>(j)];
        const float* row = v + j * in.v.stride(1);
        for (int64_t i = 0; i < value; ++i) o[i] += weight * row[i];
    }
    for (int64_t i = 0; i < value; ++i) o[i] /= softmax.sum;
}

}  // namespace

void decode_attention(CpuContext& ctx, Tensor out, const DecodeInputs& in) {
    const int64_t heads = in.q.size(1);
    const int64_t work = in.longest * (in.q.size(2) + in.v.size(3));
    parallel_for(ctx, in.q.size(0) * heads, work, [&](int64_t i) {
        thread_local std::vector<float> p;
        head_attention(out, in, i / heads, i % heads, p);
    });
}

int64_t decode_attention_scratch_bytes(CpuContext&, const DecodeInputs&) {
    return 0;
}

}  // namespace pastur
