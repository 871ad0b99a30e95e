#include "engine/bench/core_operands.h"

#include <cmath>

namespace pastur {

/// Bounds of documents in which every token is a separator with probability 1 / mean.
static DocumentBounds random_documents(Context& ctx, TensorPool& pool, const Shape& shape, int64_t mean) {
    const Tensor first_key = pool.empty(DType::kI32, shape), query_end = pool.empty(DType::kI32, shape);
    find_documents(ctx, first_key, query_end, pool.ids(shape.numel(), mean), 0);
    return {first_key, query_end};
}

CoreTensors core_tensors(Context& ctx, TensorPool& pool, DType dtype, const CoreShape& s) {
    const int64_t rows = s.batch * s.time, qk = s.content + s.rotary;
    const auto take = [&](bool random) {
        const Shape q_shape = {rows, s.heads * qk}, kv_shape = {rows, s.heads * (s.content + s.v)};
        const auto make = [&](const Shape& shape) {
            return random ? pool.normal(dtype, shape) : pool.empty(dtype, shape);
        };
        const auto view = [&](Tensor x, int64_t begin, int64_t width) {
            return x.slice(1, begin, s.heads * width)
                .unflatten(0, s.batch, s.time)
                .unflatten(2, s.heads, width);
        };
        struct {
            Tensor q, k, k_shared, v;
        } t;
        const Tensor packed = make(s.rotary ? q_shape : Shape{rows, s.heads * (2 * s.content + s.v)});
        const Tensor kv = s.rotary ? make(kv_shape) : packed.slice(1, s.heads * qk, kv_shape[1]);
        t.q = view(packed, 0, qk);
        t.k = view(kv, 0, s.content);
        t.v = view(kv, s.heads * s.content, s.v);
        if (s.rotary) t.k_shared = make({s.batch, s.time, s.rotary});
        return t;
    };
    const auto inputs = take(true), grads = take(false);
    const float scale = 1.0f / std::sqrt(static_cast<float>(qk));
    DocumentBounds documents;
    if (s.document > 0) documents = random_documents(ctx, pool, {s.batch, s.time}, s.document);
    return {{inputs.q, inputs.k, inputs.k_shared, inputs.v, scale, {}, s.stride, documents},
            pool.empty(dtype, {s.batch, s.time, s.heads, s.v}),
            pool.empty(DType::kF32, {s.batch, s.heads, s.time}),
            {grads.q, grads.k, grads.k_shared, grads.v},
            s.rotary ? inputs.q.slice(3, s.content, s.rotary) : inputs.q,
            s.rotary ? inputs.k_shared.unflatten(2, 1, s.rotary) : inputs.k};
}

}  // namespace pastur
