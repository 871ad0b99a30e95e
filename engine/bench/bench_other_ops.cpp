// Ops that memory bounds, and the optimizers' updates.
#include <algorithm>

#include "engine/bench/op_bencher.h"
#include "engine/model/attention/variants.h"
#include "engine/model/lm_head.h"
#include "engine/model/mlp.h"
#include "engine/model/model.h"
#include "engine/train/optimizer/optimizer_state.h"
#include "kernels/attention/rope.h"
#include "kernels/attention/temporal_merge.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/layer_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/muon.h"
#include "kernels/reduce.h"
#include "kernels/rmsnorm.h"
#include "kernels/swiglu.h"

namespace pastur {
namespace {

/// Most parameters that AdamW updates here; its rate is constant from far fewer on.
constexpr int64_t kMostParameters = int64_t{1} << 27;

}  // namespace

/// RMS norms of the last dimension of x, whose gradient is added to another one if `residual`.
void OpBencher::rms_norm(const std::string& op, const Shape& x_shape, bool residual) {
    const int64_t width = x_shape[x_shape.rank() - 1], rows = x_shape.numel() / width;
    const Shape rstd_shape = x_shape.rank() == 3 ? Shape{x_shape[0], x_shape[1]} : Shape{rows};
    const auto weight = [=](TensorPool& pool) { return pool.constant(DType::kF32, {width}, 1); };
    add(op + " forward", to_string(x_shape), 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, x_shape), out = pool.empty(dtype_, x_shape);
        return [this, x, out, w = weight(pool), rstd = pool.empty(DType::kF32, rstd_shape)] {
            rmsnorm_forward(ctx_, out, rstd, x, w, 1e-6f);
        };
    });
    add(op + " backward", to_string(x_shape), rmsnorm_backward_scratch_bytes(ctx_, rows, width),
        [&](TensorPool& pool) -> Call {
            const Tensor x = pool.normal(dtype_, x_shape), dy = pool.normal(dtype_, x_shape);
            const Tensor dresidual = residual ? pool.normal(dtype_, x_shape) : Tensor();
            const Tensor dx = pool.empty(dtype_, x_shape), w = weight(pool);
            const Tensor rstd = pool.constant(DType::kF32, rstd_shape, 1);
            return [=, this, dw = pool.empty(DType::kF32, {width})] {
                rmsnorm_backward(ctx_, {.dx = dx,
                                        .dweight = dw,
                                        .dweight_update = Update::kAssign,
                                        .dy = dy,
                                        .x = x,
                                        .rstd = rstd,
                                        .weight = w,
                                        .dresidual = dresidual});
            };
        });
}

void OpBencher::norms_and_gates() {
    const int64_t width = config_.model.d_model, ffn = stored_ffn(config_.model.ffn);
    const Shape stream = {tokens_, width};
    rms_norm("rmsnorm", stream, true);
    const Shape heads = {batch_, time_, config_.model.heads, config_.model.head_dim};
    if (heads[3] % 2 == 0)
        add("rope", to_string(heads), 0, [&](TensorPool& pool) -> Call {
            const Tensor x = pool.normal(dtype_, heads);
            return [this, x, table = pool.normal(DType::kF32, {time_, heads[3]}, 0.5f)] {
                rope(ctx_, x, x, table, Rotation::kForward);
            };
        });
    const Shape gate_up = {tokens_, 2 * ffn}, gated = {tokens_, ffn};
    add("swiglu forward", to_string(gated), 0, [&](TensorPool& pool) -> Call {
        const Tensor gu = pool.normal(dtype_, gate_up);
        return [this, gu, out = pool.empty(dtype_, gated)] { swiglu_forward(ctx_, out, gu); };
    });
    add("swiglu backward", to_string(gated), 0, [&](TensorPool& pool) -> Call {
        const Tensor gu = pool.normal(dtype_, gate_up), dout = pool.normal(dtype_, gated);
        return
            [this, gu, dout, dgu = pool.empty(dtype_, gate_up)] { swiglu_backward(ctx_, dgu, {}, dout, gu); };
    });
}

/// The norm of mtla's latents.
void OpBencher::layer_norms() {
    const int64_t width = config_.attention.kv_rank;
    const Shape latents = {tokens_, width};
    const auto vector = [=](TensorPool& pool, float value) {
        return pool.constant(DType::kF32, {width}, value);
    };
    add("layer norm forward", to_string(latents), 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, latents), w = vector(pool, 1), bias = vector(pool, 0);
        const Tensor mean = pool.empty(DType::kF32, {tokens_}), rstd = pool.empty(DType::kF32, {tokens_});
        return [=, this, out = pool.empty(dtype_, latents)] {
            layer_norm_forward(ctx_, out, mean, rstd, x, w, bias, 1e-5f);
        };
    });
    add("layer norm backward", to_string(latents), layer_norm_backward_scratch_bytes(ctx_, tokens_, width),
        [&](TensorPool& pool) -> Call {
            const Tensor x = pool.normal(dtype_, latents), dy = pool.normal(dtype_, latents);
            const Tensor mean = pool.constant(DType::kF32, {tokens_}, 0);
            const Tensor rstd = pool.constant(DType::kF32, {tokens_}, 1), w = vector(pool, 1);
            const Tensor dw = pool.empty(DType::kF32, {width}), dbias = pool.empty(DType::kF32, {width});
            return [=, this, dx = pool.empty(dtype_, latents)] {
                layer_norm_backward(ctx_, {.dx = dx,
                                           .dweight = dw,
                                           .dbias = dbias,
                                           .update = Update::kAssign,
                                           .dy = dy,
                                           .x = x,
                                           .mean = mean,
                                           .rstd = rstd,
                                           .weight = w});
            };
        });
}

void OpBencher::temporal_merges() {
    const int64_t width = config_.attention.kv_rank, stride = config_.attention.stride;
    const int64_t codes = std::max<int64_t>(width / 4, 1), chunks = (time_ + stride - 1) / stride;
    const Shape latents = {tokens_, width};
    const auto operands = [=, this](TensorPool& pool) -> TemporalMerge {
        return {pool.normal(dtype_, latents),
                pool.normal(dtype_, {tokens_, codes}),
                pool.normal(dtype_, {chunks, codes}),
                pool.constant(DType::kF32, {codes}, 0),
                pool.constant(DType::kF32, {codes}, 0),
                time_,
                stride};
    };
    const std::string shape = fmt::format("{} T {} stride {}", to_string(latents), time_, stride);
    add("temporal merge forward", shape, 0, [&](TensorPool& pool) -> Call {
        const Tensor out = pool.empty(dtype_, latents), gate = pool.empty(DType::kF32, {tokens_});
        return [=, this, in = operands(pool)] { temporal_merge_forward(ctx_, out, gate, in); };
    });
    add("temporal merge backward", shape, 0, [&](TensorPool& pool) -> Call {
        const TemporalMerge in = operands(pool);
        reserve_scratch(ctx_, temporal_merge_backward_scratch_bytes(ctx_, in));
        const Tensor dout = pool.normal(dtype_, latents), gate = pool.constant(DType::kF32, {tokens_}, 0.5f);
        const TemporalMergeGrads grads{pool.empty(dtype_, latents),
                                       pool.empty(dtype_, in.latent_code.shape()),
                                       pool.empty(dtype_, in.chunk_code.shape()),
                                       pool.empty(DType::kF32, {codes}),
                                       pool.empty(DType::kF32, {codes}),
                                       Update::kAssign};
        return [=, this] { temporal_merge_backward(ctx_, grads, dout, gate, in); };
    });
}

void OpBencher::head() {
    const int64_t vocab = config_.model.vocab, width = config_.model.d_model;
    const Shape logits = {LmHead::slice_tokens(vocab, dtype_, tokens_), vocab};
    // Works in place: from the second call on its input is gradients, at the same speed.
    add("cross entropy", to_string(logits), 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, logits), targets = pool.ids(logits[0], vocab);
        return [this, x, targets, losses = pool.empty(DType::kF32, {x.size(0)})] {
            cross_entropy_forward_backward(ctx_, losses, x, targets, 1.0f);
        };
    });
    const std::string rows = fmt::format("[{}, {}] of {}", tokens_, width, vocab);
    add("embedding forward", rows, 0, [&](TensorPool& pool) -> Call {
        const Tensor table = pool.normal(dtype_, {vocab, width}), ids = pool.ids(tokens_, vocab);
        return [this, table, ids, out = pool.empty(dtype_, {tokens_, width})] {
            embedding_forward(ctx_, out, table, ids);
        };
    });
    add("embedding backward", rows, embedding_backward_scratch_bytes(ctx_, tokens_, vocab),
        [&](TensorPool& pool) -> Call {
            const Tensor dout = pool.normal(dtype_, {tokens_, width}), ids = pool.ids(tokens_, vocab);
            return [this, dout, ids, dtable = pool.empty(DType::kF32, {vocab, width})] {
                embedding_backward(ctx_, dtable, dout, ids, Update::kAssign);
            };
        });
}

void OpBencher::updates() {
    const Model model(config_, dtype_, {batch_, time_});
    const int64_t count = std::min(model.params().table().total_elements(), kMostParameters);
    add("adamw", to_string({count}), 0, [&](TensorPool& pool) -> Call {
        const Tensor param = pool.normal(DType::kF32, {count}, 0.02f),
                     grad = pool.normal(DType::kF32, {count});
        const Tensor m = pool.constant(DType::kF32, {count}, 0), v = pool.constant(DType::kF32, {count}, 0);
        const Tensor compute = dtype_ == DType::kBF16 ? pool.empty(dtype_, {count}) : Tensor();
        const Tensor norm = pool.constant(DType::kF64, {1}, 1);
        AdamwParams params;
        params.lr = 1e-4f, params.beta1 = 0.9f, params.beta2 = 0.95f, params.eps = 1e-8f;
        return [=, this] { adamw_step(ctx_, param, m, v, compute, grad, norm, params); };
    });
    add("sum of squares", to_string({count}), sum_scratch_bytes(ctx_, count), [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(DType::kF32, {count});
        return
            [this, x, sum = pool.empty(DType::kF64, {1})] { sum_of_squares(ctx_, sum, x, Update::kAssign); };
    });
}

/// An update of one matrix of every shape that Muon updates.
void OpBencher::muon() {
    const Model model(config_, dtype_, {batch_, time_});
    for (const Param& param : model.params().table().params()) {
        if (!is_muon_matrix(param)) continue;
        const Shape shape = {param.shape[0], param.shape[1]};
        add("muon", to_string(shape), muon_scratch_bytes(shape[0], shape[1], dtype_),
            [&](TensorPool& pool) -> Call {
                const MuonTensors tensors{pool.normal(DType::kF32, shape, 0.02f),
                                          pool.constant(DType::kF32, shape, 0),
                                          dtype_ == DType::kBF16 ? pool.empty(dtype_, shape) : Tensor(),
                                          pool.normal(DType::kF32, shape)};
                const Tensor norm = pool.constant(DType::kF64, {1}, 1);
                MuonParams params;
                params.lr = 1e-4f, params.gemm_dtype = dtype_;
                return [=, this] { muon_step(ctx_, tensors, norm, params); };
            });
    }
}

}  // namespace pastur
