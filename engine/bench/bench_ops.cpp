#include "engine/bench/op_bencher.h"

#include <algorithm>
#include <cmath>

#include "engine/bench/bench.h"
#include "engine/config/nearest_name.h"
#include "engine/model/attention/variants.h"
#include "engine/model/lm_head.h"
#include "engine/model/mlp.h"
#include "engine/model/model.h"
#include "kernels/attention/linear_rope.h"
#include "kernels/fp8.h"
#include "kernels/linear_swiglu.h"
#include "kernels/matmul.h"

namespace pastur {
namespace {

/// Total bytes of all sets of one op: several times the largest cache of a device.
constexpr double kRotatedBytes = 256e6;
constexpr int64_t kMostSets = 32;

/// "q_proj" of "model.layers.0.self_attn.q_proj.weight", "lm_head" of "lm_head.weight".
std::string short_name(const std::string& name) {
    const size_t end = name.rfind('.');
    const size_t begin = name.rfind('.', end - 1);
    return begin == std::string::npos ? name.substr(0, end) : name.substr(begin + 1, end - begin - 1);
}

}  // namespace

void OpBencher::run() {
    matmuls();
    norms_and_gates();
    if (config_.attention.qk_norm == QkNorm::kHead) {
        const CoreWidths widths = variant_of(config_).core_widths(config_);
        rms_norm("head norm", {tokens_, config_.model.heads, widths.qk - widths.shared}, false);
    }
    if (config_.attention.stride > 0) {
        layer_norms();
        temporal_merges();
    }
    products_and_more();
    head();
    updates();
    muon();
    attention();
    decoding();
    if (!any_)
        fail(ExitCode::kUsage,
             "--ops: expected the beginning of an op's name, found \"{}\"; did you mean \"{}\"?", only_,
             nearest_name(only_, left_out_));
}

void OpBencher::add(const std::string& op, const std::string& shape, int64_t scratch_bytes,
                    const MakeCall& make) {
    if (!op.starts_with(only_)) {
        left_out_.push_back(op.substr(0, op.find(' ')));
        return;
    }
    any_ = true;
    const auto same = [&](const OpBench& other) { return other.op == op && other.shape == shape; };
    if (std::any_of(results_.begin(), results_.end(), same)) return;
    reserve_scratch(ctx_, scratch_bytes);
    std::vector<TensorPool> pools;
    std::vector<Call> calls;
    const auto add_set = [&] {
        pools.emplace_back(ctx_, calls.size() + 1);
        calls.push_back(make(pools.back()));
    };
    pools.reserve(kMostSets);  // calls refer to tensors that the pools own
    add_set();
    OpBench result{op, shape};
    {
        OpTimer timer(ctx_);
        calls.front()();
        for (const OpTotal& total : timer.collect()) {
            result.flops += total.flops;
            result.bytes += total.bytes;
        }
    }
    const auto sets = std::clamp<int64_t>(std::llround(kRotatedBytes / result.bytes), 1, kMostSets);
    while (static_cast<int64_t>(calls.size()) < sets) add_set();
    size_t next = 0;
    const auto call = [&] { calls[next++ % calls.size()](); };
    if (is_cuda(ctx_)) result.rested_seconds = rested_seconds(ctx_, call);
    result.seconds = median_seconds(ctx_, call);
    results_.push_back(std::move(result));
    measured_(results_.back());
}

void OpBencher::matmuls() {
    const Model model(config_, dtype_, {batch_, time_});
    const ParamTable& table = model.params().table();
    std::vector<Shape> seen;
    for (const ParamGroup& group : table.groups()) {
        const Param& first = table.params()[group.members.front()];
        if (!first.is_matrix() || !first.per_token) continue;
        if (std::find(seen.begin(), seen.end(), group.shape) != seen.end()) continue;
        const bool embedding = first.name == "model.embed_tokens.weight";
        const bool head = first.name == "lm_head.weight" || (embedding && config_.model.tie_embeddings);
        if (embedding && !head) continue;
        seen.push_back(group.shape);
        std::string name;
        for (const size_t member : group.members)
            name += (name.empty() ? "" : "+") + short_name(table.params()[member].name);
        matmul(name, head ? LmHead::slice_tokens(config_.model.vocab, dtype_, tokens_) : tokens_,
               group.shape);
    }
}

void OpBencher::matmul(const std::string& name, int64_t rows, const Shape& weight) {
    const std::string shape = fmt::format("{} [{}, {}] x {}", name, weight[0], weight[1], rows);
    const Shape x_shape = {rows, weight[1]}, y_shape = {rows, weight[0]};
    add("matmul forward", shape, 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, x_shape), w = pool.normal(dtype_, weight, 0.02f);
        return [this, x, w, y = pool.empty(dtype_, y_shape)] { linear_forward(ctx_, y, x, w); };
    });
    add("matmul dgrad", shape, 0, [&](TensorPool& pool) -> Call {
        const Tensor dy = pool.normal(dtype_, y_shape), w = pool.normal(dtype_, weight, 0.02f);
        return [this, dy, w, dx = pool.empty(dtype_, x_shape)] {
            linear_backward_input(ctx_, dx, dy, w, Update::kAssign);
        };
    });
    if (config_.train.precision == Precision::kFp8) fp8_matmul(shape, rows, weight);
    add("matmul wgrad", shape, 0, [&](TensorPool& pool) -> Call {
        const Tensor dy = pool.normal(dtype_, y_shape), x = pool.normal(dtype_, x_shape);
        return [this, dy, x, dw = pool.empty(DType::kF32, weight)] {
            linear_backward_weight(ctx_, dw, dy, x, Update::kAssign);
        };
    });
}

/// GEMMs in fp8 including the quantisation of their inputs, and the quantisation alone. Ignores
/// train.fp8_min_outputs and fp8_min_gradient_side.
void OpBencher::fp8_matmul(const std::string& shape, int64_t rows, const Shape& weight) {
    const int64_t out = weight[0], in = weight[1];
    if (!fp8_takes(out, in)) return;
    const auto empty_rows = [](TensorPool& pool, int64_t count, int64_t width) {
        return Fp8Rows{pool.empty(DType::kF8E4M3, {count, width}), pool.empty(DType::kF32, {count})};
    };
    const auto quantized = [this, empty_rows](TensorPool& pool, int64_t count,
                                              int64_t width) -> ConstFp8Rows {
        const Fp8Rows copy = empty_rows(pool, count, width);
        quantize_rows(ctx_, copy, pool.normal(dtype_, {count, width}, 0.02f));
        return copy;
    };
    add("fp8 quantise", fmt::format("[{}, {}]", rows, in), 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, {rows, in});
        return [this, x, to = empty_rows(pool, rows, in)] { quantize_rows(ctx_, to, x); };
    });
    for (const Shape& shape_of_x : {weight, Shape{rows, in}})
        add("fp8 quantise", fmt::format("columns of {}", to_string(shape_of_x)), 0,
            [&](TensorPool& pool) -> Call {
                const Tensor x = pool.normal(dtype_, shape_of_x, 0.02f);
                return
                    [this, x, to = empty_rows(pool, x.size(1), x.size(0))] { quantize_columns(ctx_, to, x); };
            });
    add("fp8 forward", shape, fp8_linear_scratch_bytes(ctx_, rows, out, in, false),
        [&](TensorPool& pool) -> Call {
            const Tensor x = pool.normal(dtype_, {rows, in});
            return [this, x, w = quantized(pool, out, in), y = pool.empty(dtype_, {rows, out})] {
                linear_forward(ctx_, y, x, w);
            };
        });
    add("fp8 dgrad", shape, fp8_linear_scratch_bytes(ctx_, rows, in, out, false),
        [&](TensorPool& pool) -> Call {
            const Tensor dy = pool.normal(dtype_, {rows, out});
            return [this, dy, w = quantized(pool, in, out), dx = pool.empty(dtype_, {rows, in})] {
                linear_backward_input(ctx_, dx, dy, w, Update::kAssign);
            };
        });
    if (rows % 16 != 0) return;
    add("fp8 wgrad", shape, fp8_weight_gradient_scratch_bytes(ctx_, rows, out, in),
        [&](TensorPool& pool) -> Call {
            const Tensor dy = pool.normal(dtype_, {rows, out}), x = pool.normal(dtype_, {rows, in});
            return [this, dy, x, dw = pool.empty(DType::kF32, weight)] {
                linear_backward_weight_in_fp8(ctx_, dw, dy, x, Update::kAssign);
            };
        });
}

/// GEMMs that end in another op, fused into one kernel where there is one, as in training.
void OpBencher::products_and_more() {
    const int64_t width = config_.model.d_model, ffn = stored_ffn(config_.model.ffn);
    const int64_t heads = config_.model.heads, dim = config_.model.head_dim;
    const Shape stream = {tokens_, width}, gate_up = {tokens_, 2 * ffn}, gated = {tokens_, ffn};
    if (dim % 2 == 0)
        add("matmul, rope of q and k", to_string(stream), 0, [&](TensorPool& pool) -> Call {
            const Tensor x = pool.normal(dtype_, stream);
            const Tensor w = pool.normal(dtype_, {3 * heads * dim, width}, 0.02f);
            const HeadRotation rotation{pool.normal(DType::kF32, {time_, dim}, 0.5f), 2 * heads, time_};
            return [=, this, y = pool.empty(dtype_, {tokens_, w.size(0)})] {
                linear_rope_forward(ctx_, y, x, w, rotation);
            };
        });
    add("matmul, swiglu forward", to_string(gated), 0, [&](TensorPool& pool) -> Call {
        const Tensor x = pool.normal(dtype_, stream), w = pool.normal(dtype_, {2 * ffn, width}, 0.02f);
        return [=, this, gu = pool.empty(dtype_, gate_up), out = pool.empty(dtype_, gated)] {
            linear_swiglu_forward(ctx_, out, gu, x, w);
        };
    });
    add("matmul, swiglu backward", to_string(gated), 0, [&](TensorPool& pool) -> Call {
        const Tensor gu = pool.normal(dtype_, gate_up), dy = pool.normal(dtype_, stream);
        const Tensor w = pool.normal(dtype_, {width, ffn}, 0.02f), dout = pool.empty(dtype_, gated);
        return [=, this, dgu = pool.empty(dtype_, gate_up)] {
            linear_swiglu_backward(ctx_, dgu, {}, dout, dy, w, gu);
        };
    });
}

void OpBencher::attention() {
    const CoreWidths widths = variant_of(config_).core_widths(config_);
    std::vector<CoreShape> shapes = {{batch_, config_.model.heads, time_, widths.qk - widths.shared,
                                      widths.shared, widths.v,
                                      std::max<int64_t>(config_.attention.stride, 1)}};
    if (is_cuda(ctx_))
        shapes.insert(shapes.end(), {{512, 12, 256, 64, 0, 64},
                                     {128, 12, 1024, 64, 0, 64},
                                     {128, 12, 1024, 64, 32, 64},
                                     {16, 12, 8192, 64, 0, 64},
                                     {16, 16, 4096, 128, 0, 128},
                                     {16, 16, 4096, 128, 64, 128}});
    else
        shapes.insert(shapes.end(),
                      {{2, 4, 256, 64, 0, 64}, {1, 2, 1024, 64, 0, 64}, {1, 2, 256, 128, 64, 128}});
    for (CoreShape shape : shapes) {
        if (config_.data.mask_documents) shape.document = bench_document_tokens(config_);
        attention_core(shape);
    }
}

void OpBencher::attention_core(const CoreShape& s) {
    // tools/peers/torch_attention.py parses this text.
    const std::string shape = fmt::format("B {} H {} T {} d_qk {}{} d_v {}{}{}", s.batch, s.heads, s.time,
                                          s.content, s.rotary ? fmt::format(" + {} shared", s.rotary) : "",
                                          s.v, s.stride > 1 ? fmt::format(" stride {}", s.stride) : "",
                                          s.document > 0 ? fmt::format(" documents {}", s.document) : "");
    // On a CPU rotation is a separate pass, timed above.
    for (const bool rotated : {false, true}) {
        if (rotated && !is_cuda(ctx_)) continue;
        const std::string ending = rotated ? ", rotated" : "";
        const Shape table_shape = {s.time, s.rotary ? s.rotary : s.content};
        const auto table = [=](TensorPool& pool) {
            return rotated ? pool.constant(DType::kF32, table_shape, 0.70710678f) : Tensor();
        };
        add("attention forward" + ending, shape, 0, [&](TensorPool& pool) -> Call {
            const CoreTensors t = core_tensors(ctx_, pool, dtype_, s);
            return [this, t, rotary = RotaryColumns{t.rotary_q, t.rotary_k, table(pool)}] {
                causal_attention_forward(ctx_, t.out, t.lse, t.in, rotary);
            };
        });
        add("attention backward" + ending, shape, 0, [&](TensorPool& pool) -> Call {
            CoreTensors t = core_tensors(ctx_, pool, dtype_, s);
            t.grads.rope_table = table(pool);
            reserve_scratch(ctx_, causal_attention_backward_scratch_bytes(ctx_, t.in));
            causal_attention_forward(ctx_, t.out, t.lse, t.in);
            return [this, t, dout = pool.normal(dtype_, t.out.shape())] {
                causal_attention_backward(ctx_, t.grads, dout, t.out, t.lse, t.in);
            };
        });
    }
}

void bench_ops(Context& ctx, const Config& config, const std::string& only, std::vector<OpBench>& ops,
               const std::function<void(const OpBench&)>& measured) {
    OpBencher(ctx, config, only, ops, measured).run();
}

}  // namespace pastur
