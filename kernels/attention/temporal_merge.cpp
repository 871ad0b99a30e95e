#include "kernels/attention/temporal_merge.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

bool is_matrix(const ConstTensor& x) {
    return x.rank() == 2 && x.stride(1) == 1;
}
bool is_like(const ConstTensor& x, const ConstTensor& like) {
    return is_matrix(x) && x.shape() == like.shape() && x.dtype() == like.dtype();
}

void check_vector(const char* op, const char* name, const ConstTensor& vector, int64_t size) {
    PASTUR_CHECK(vector.dtype() == DType::kF32 && vector.contiguous() && vector.shape() == Shape{size},
                 "{}: {} {}, expected f32 [{}]", op, name, describe(vector), size);
}

void check(const char* op, const TemporalMerge& in, const ConstTensor& gate) {
    PASTUR_CHECK(is_matrix(in.c) && (in.c.dtype() == DType::kF32 || in.c.dtype() == DType::kBF16), "{}: c {}",
                 op, describe(in.c));
    PASTUR_CHECK(in.time >= 1 && in.stride >= 1 && in.c.size(0) % in.time == 0,
                 "{}: {} tokens in sequences of {}, stride {}", op, in.c.size(0), in.time, in.stride);
    const int64_t chunks = (in.time + in.stride - 1) / in.stride;
    PASTUR_CHECK(is_matrix(in.latent_code) && in.latent_code.dtype() == in.c.dtype() &&
                     in.latent_code.size(0) == in.c.size(0),
                 "{}: latent_code {}, c {}", op, describe(in.latent_code), describe(in.c));
    const int64_t width = in.latent_code.size(1);
    PASTUR_CHECK(is_matrix(in.chunk_code) && in.chunk_code.dtype() == in.c.dtype() &&
                     in.chunk_code.shape() == (Shape{chunks, width}),
                 "{}: chunk_code {}, expected [{}, {}]", op, describe(in.chunk_code), chunks, width);
    check_vector(op, "latent_bias", in.latent_bias, width);
    check_vector(op, "chunk_bias", in.chunk_bias, width);
    check_vector(op, "gate", gate, in.c.size(0));
    PASTUR_CHECK(in.first_key.empty() || (in.first_key.dtype() == DType::kI32 && in.first_key.contiguous() &&
                                          in.first_key.shape() == (Shape{in.c.size(0) / in.time, in.time})),
                 "{}: first_key {}, expected i32 [{}, {}]", op, describe(in.first_key),
                 in.c.size(0) / in.time, in.time);
}

}  // namespace

void chunk_positions(Context& ctx, Tensor positions) {
    PASTUR_CHECK(positions.rank() == 2 && positions.contiguous() &&
                     (positions.dtype() == DType::kF32 || positions.dtype() == DType::kBF16),
                 "chunk_positions: {}", describe(positions));
    const OpScope scope(ctx, OpFamily::kFill, 0, bytes_of(positions));
    std::visit([&](auto& c) { chunk_positions(c, positions); }, ctx);
}

void temporal_merge_forward(Context& ctx, Tensor out, Tensor gate, const TemporalMerge& in) {
    check("temporal_merge_forward", in, gate);
    PASTUR_CHECK(is_like(out, in.c), "temporal_merge_forward: out {}, c {}", describe(out), describe(in.c));
    const OpScope scope(
        ctx, OpFamily::kTemporalMerge, 0,
        bytes_of(out, gate, in.c, in.latent_code, in.chunk_code, in.latent_bias, in.chunk_bias));
    std::visit([&](auto& c) { temporal_merge_forward(c, out, gate, in); }, ctx);
}

void temporal_merge_backward(Context& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in) {
    constexpr const char* kOp = "temporal_merge_backward";
    check(kOp, in, gate);
    PASTUR_CHECK(is_like(dout, in.c) && is_like(grads.dc, in.c), "{}: dout {}, dc {}, c {}", kOp,
                 describe(dout), describe(grads.dc), describe(in.c));
    PASTUR_CHECK(is_like(grads.dlatent_code, in.latent_code) && is_like(grads.dchunk_code, in.chunk_code),
                 "{}: dlatent_code {}, latent_code {}, dchunk_code {}, chunk_code {}", kOp,
                 describe(grads.dlatent_code), describe(in.latent_code), describe(grads.dchunk_code),
                 describe(in.chunk_code));
    check_vector(kOp, "dlatent_bias", grads.dlatent_bias, in.latent_code.size(1));
    check_vector(kOp, "dchunk_bias", grads.dchunk_bias, in.latent_code.size(1));
    const OpScope scope(ctx, OpFamily::kTemporalMerge, 0,
                        bytes_of(grads.dc, grads.dlatent_code, grads.dchunk_code, dout, gate, in.c,
                                 in.latent_code, in.chunk_code));
    std::visit([&](auto& c) { temporal_merge_backward(c, grads, dout, gate, in); }, ctx);
}

int64_t temporal_merge_backward_scratch_bytes(Context& ctx, const TemporalMerge& in) {
    return std::visit([&](auto& c) { return temporal_merge_backward_scratch_bytes(c, in); }, ctx);
}

}  // namespace pastur
