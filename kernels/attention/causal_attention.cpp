#include "kernels/attention/causal_attention.h"

#include "kernels/attention/check_scores.h"
#include "kernels/base/op_timer.h"

namespace pastur {

void check_scores(const char* op, const AttentionInputs& in) {
    const auto text = [&] {
        return fmt::format("{}: q {}, k {}, k_shared {}", op, describe(in.q), describe(in.k),
                           describe(in.k_shared));
    };
    PASTUR_CHECK(in.q.rank() == 4 && in.k.rank() == 4, "{}", text());
    const DType dtype = in.q.dtype();
    PASTUR_CHECK((dtype == DType::kF32 || dtype == DType::kBF16) && in.k.dtype() == dtype, "{}", text());
    PASTUR_CHECK(in.q.stride(3) == 1 && in.k.stride(3) == 1 && in.k.size(0) == in.q.size(0) &&
                     in.k.size(1) == in.q.size(1) && in.k.size(2) > 0 && in.q.size(2) % in.k.size(2) == 0,
                 "{}", text());
    int64_t rotary = 0;
    if (!in.k_shared.empty()) {
        PASTUR_CHECK(in.k_shared.rank() == 3 && in.k_shared.dtype() == dtype && in.k_shared.stride(2) == 1 &&
                         in.k_shared.size(0) == in.q.size(0) && in.k_shared.size(1) == in.q.size(1),
                     "{}", text());
        rotary = in.k_shared.size(2);
    }
    PASTUR_CHECK(in.q.size(3) == in.k.size(3) + rotary, "{}", text());
    PASTUR_CHECK(in.stride >= 1, "{}: stride {}, expected 1 or more", op, in.stride);
    check_documents(op, in.documents, in.q.size(0), in.q.size(1));
}

namespace {

void check(const char* op, const AttentionInputs& in) {
    check_scores(op, in);
    PASTUR_CHECK(in.v.rank() == 4 && in.v.dtype() == in.q.dtype() && in.v.stride(3) == 1 &&
                     in.v.size(0) == in.q.size(0) && in.v.size(1) == in.q.size(1) &&
                     in.v.size(2) == in.k.size(2),
                 "{}: q {}, k {}, v {}", op, describe(in.q), describe(in.k), describe(in.v));
}

void check_like(const char* op, const char* name, const ConstTensor& x, const ConstTensor& like) {
    PASTUR_CHECK(x.shape() == like.shape() && x.dtype() == like.dtype() && (x.empty() || x.stride(-1) == 1),
                 "{}: {} {}, expected as {}", op, name, describe(x), describe(like));
}

void check_out(const char* op, const ConstTensor& out, const ConstTensor& lse, const AttentionInputs& in) {
    const Shape expected = {in.q.size(0), in.q.size(1), in.q.size(2), in.v.size(3)};
    PASTUR_CHECK(out.shape() == expected && out.dtype() == in.q.dtype() && out.stride(3) == 1,
                 "{}: out {}, expected {}", op, describe(out), to_string(expected));
    PASTUR_CHECK(lse.dtype() == DType::kF32 && lse.contiguous() &&
                     lse.shape() == (Shape{in.q.size(0), in.q.size(2), in.q.size(1)}),
                 "{}: lse {}", op, describe(lse));
}

void check_table(const char* op, const ConstTensor& table, const AttentionInputs& in) {
    if (table.empty()) return;
    const int64_t width = in.k_shared.empty() ? in.k.size(3) : in.k_shared.size(2);
    PASTUR_CHECK(table.dtype() == DType::kF32 && table.rank() == 2 && table.contiguous() &&
                     table.size(0) >= in.q.size(1) && table.size(1) == width,
                 "{}: rope_table {}, expected f32 [>= {}, {}]", op, describe(table), in.q.size(1), width);
}

/// Checks that `rotary` views the inputs, which the caller wants rotated.
void check_rotary(const char* op, const RotaryColumns& rotary, const AttentionInputs& in) {
    check_table(op, rotary.table, in);
    if (rotary.table.empty()) return;
    const int64_t width = rotary.table.size(1);
    const ConstTensor q = in.q.slice(3, in.q.size(3) - width, width);
    const ConstTensor k = in.k_shared.empty() ? in.k : in.k_shared.unflatten(2, 1, width);
    const auto same = [](const ConstTensor& x, const ConstTensor& y) {
        return x.bytes() == y.bytes() && x.shape() == y.shape() && x.dtype() == y.dtype();
    };
    PASTUR_CHECK(same(rotary.q, q) && (same(rotary.k, k) || (rotary.k.empty() && in.k_shared.empty())),
                 "{}: rotary columns {} and {}, expected {} and {}", op, describe(rotary.q),
                 describe(rotary.k), describe(q), describe(k));
}

/// FLOPs of `qk` GEMMs of width d_n + d_r and `v` GEMMs of width d_v over the causal half of the scores,
/// whatever the stride and the documents, so that rates with and without masks compare as times do: kernels compute all
/// scores of that half that a stride hides, and leave out tiles that lie in other documents. Forward has one of each (q k^T; P v); backward has three (q k^T, dS k, dS^T q) and two (dout v^T, P^T dout).
double gemm_flops(const AttentionInputs& in, int64_t qk, int64_t v) {
    const int64_t queries = in.q.size(0) * in.q.size(1) * in.q.size(2);
    const int64_t widths = qk * in.q.size(3) + v * in.v.size(3);
    return static_cast<double>(queries) * static_cast<double>(in.q.size(1)) * static_cast<double>(widths);
}

}  // namespace

void causal_attention_forward(Context& ctx, Tensor out, Tensor lse, const AttentionInputs& in,
                              const RotaryColumns& rotary, Tensor max_logit) {
    check("causal_attention_forward", in);
    check_out("causal_attention_forward", out, lse, in);
    check_rotary("causal_attention_forward", rotary, in);
    PASTUR_CHECK(max_logit.empty() || (max_logit.dtype() == DType::kF32 && max_logit.rank() == 1 &&
                                       max_logit.stride(0) >= 1 && max_logit.size(0) == in.q.size(2)),
                 "causal_attention_forward: max_logit {}, expected f32 [{}]", describe(max_logit),
                 in.q.size(2));
    const OpScope scope(ctx, OpFamily::kAttentionForward, gemm_flops(in, 1, 1),
                        bytes_of(out, lse, in.q, in.k, in.k_shared, in.v));
    std::visit([&](auto& c) { causal_attention_forward(c, out, lse, in, rotary, max_logit); }, ctx);
}

void causal_attention_backward(Context& ctx, const AttentionGrads& grads, ConstTensor dout, ConstTensor out,
                               ConstTensor lse, const AttentionInputs& in) {
    constexpr const char* kOp = "causal_attention_backward";
    check(kOp, in);
    check_out(kOp, out, lse, in);
    check_out(kOp, dout, lse, in);
    check_like(kOp, "dq", grads.dq, in.q);
    check_like(kOp, "dk", grads.dk, in.k);
    check_like(kOp, "dk_shared", grads.dk_shared, in.k_shared);
    check_like(kOp, "dv", grads.dv, in.v);
    check_table(kOp, grads.rope_table, in);
    PASTUR_CHECK(grads.rotated_keys || in.k_shared.empty(),
                 "{}: rotated_keys = false, expected true with k_shared", kOp);
    const OpScope scope(ctx, OpFamily::kAttentionBackward, gemm_flops(in, 3, 2),
                        2 * bytes_of(in.q, in.k, in.k_shared, in.v) + bytes_of(dout, out, lse));
    std::visit([&](auto& c) { causal_attention_backward(c, grads, dout, out, lse, in); }, ctx);
}

int64_t causal_attention_backward_scratch_bytes(Context& ctx, const AttentionInputs& in) {
    return std::visit([&](auto& c) { return causal_attention_backward_scratch_bytes(c, in); }, ctx);
}

AttentionPaths causal_attention_paths(Context& ctx, const AttentionInputs& in) {
    return std::visit([&](auto& c) { return causal_attention_paths(c, in); }, ctx);
}

std::string causal_attention_kernels(Context& ctx, const AttentionInputs& in) {
    const AttentionPaths paths = causal_attention_paths(ctx, in);
    const std::string forward = in.path.empty() ? paths.forward.front() : in.path;
    const std::string backward = in.path.empty() ? paths.backward.front() : in.path;
    if (forward == backward) return fmt::format("attention: {}", forward);
    return fmt::format("attention: {} forward, {} backward", forward, backward);
}

std::string causal_attention_fallback(Context& ctx, const AttentionInputs& in) {
    return std::visit([&](auto& c) { return causal_attention_fallback(c, in); }, ctx);
}

}  // namespace pastur
