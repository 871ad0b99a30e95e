// One call per chunk walks its tokens: forwards for the sums, backwards for their gradients.
#include "kernels/attention/temporal_merge.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace pastur {
namespace {

/// Tokens [begin, end) of one chunk of one sequence, as rows of the tensors.
struct Chunk {
    int64_t number, begin, end;
};

int64_t chunks_of(const TemporalMerge& in) {
    return in.chunk_code.size(0);
}
int64_t sequences_of(const TemporalMerge& in) {
    return in.c.size(0) / in.time;
}
Chunk chunk_of(const TemporalMerge& in, int64_t sequence, int64_t number) {
    const int64_t first = number * in.stride, last = std::min(first + in.stride, in.time);
    return {number, sequence * in.time + first, sequence * in.time + last};
}

template <typename View>
auto row_of(const View& x, int64_t n) {
    return x.template data<float>() + n * x.stride(0);
}

/// Whether token n, of all sequences, is the first of a document.
bool begins_document(const TemporalMerge& in, int64_t n) {
    return !in.first_key.empty() && in.first_key.data<int32_t>()[n] == n % in.time;
}

/// Work of one chunk, for parallel_for.
int64_t work(const TemporalMerge& in) {
    return std::min(in.stride, in.time) * 4 * (in.c.size(1) + in.latent_code.size(1));
}

float gate_of(const TemporalMerge& in, const float* latent_code, const float* chunk_code) {
    const float *latent_bias = in.latent_bias.data<float>(), *chunk_bias = in.chunk_bias.data<float>();
    float z = 0;
#pragma omp simd reduction(+ : z)
    for (int64_t i = 0; i < in.latent_code.size(1); ++i)
        z += (latent_code[i] + latent_bias[i]) * (chunk_code[i] + chunk_bias[i]);
    return sigmoid(z);
}

/// dc and dz of a chunk, and dlatent_code. `sums` [r] holds A.
void chunk_backward(const TemporalMergeGrads& grads, const ConstTensor& dout, const ConstTensor& gate,
                    const TemporalMerge& in, const Chunk& chunk, float* sums, float* dz) {
    const int64_t width = in.c.size(1), code = in.latent_code.size(1);
    const float* chunk_bias = in.chunk_bias.data<float>();
    const float* chunk_code = row_of(in.chunk_code, chunk.number);
    std::fill_n(sums, width, 0.0f);
    for (int64_t n = chunk.end - 1; n >= chunk.begin; --n) {
        const float *from = row_of(dout, n), *c = row_of(in.c, n);
        float* dc = row_of(grads.dc, n);
        const float w = gate.data<float>()[n];
        float dot = 0;
        if (n + 1 < chunk.end && begins_document(in, n + 1)) std::fill_n(sums, width, 0.0f);
#pragma omp simd reduction(+ : dot)
        for (int64_t i = 0; i < width; ++i) {
            sums[i] += from[i];
            dot += sums[i] * c[i];
            dc[i] = w * sums[i];
        }
        dz[n] = dot * w * (1 - w);
        float* dlatent_code = row_of(grads.dlatent_code, n);
        for (int64_t i = 0; i < code; ++i) dlatent_code[i] = dz[n] * (chunk_code[i] + chunk_bias[i]);
    }
}

}  // namespace

void chunk_positions(CpuContext& ctx, Tensor positions) {
    const int64_t width = positions.size(1);
    parallel_for(ctx, positions.size(0), 100 * width, [&](int64_t j) {
        float* row = row_of(positions, j);
        for (int64_t i = 0; i < width; ++i) {
            const double exponent = static_cast<double>(i / 2 * 2) / static_cast<double>(width);
            const double angle = static_cast<double>(j) * std::pow(10000.0, -exponent);
            row[i] = static_cast<float>(i % 2 == 0 ? std::sin(angle) : std::cos(angle));
        }
    });
}

void temporal_merge_forward(CpuContext& ctx, Tensor out, Tensor gate, const TemporalMerge& in) {
    const int64_t width = in.c.size(1), chunks = chunks_of(in);
    parallel_for(ctx, sequences_of(in) * chunks, work(in), [&](int64_t i) {
        const Chunk chunk = chunk_of(in, i / chunks, i % chunks);
        for (int64_t n = chunk.begin; n < chunk.end; ++n) {
            const float w = gate_of(in, row_of(in.latent_code, n), row_of(in.chunk_code, chunk.number));
            const float* c = row_of(in.c, n);
            const float* before = n > chunk.begin && !begins_document(in, n) ? row_of(out, n - 1) : nullptr;
            float* to = row_of(out, n);
            for (int64_t k = 0; k < width; ++k) to[k] = (before ? before[k] : 0.0f) + w * c[k];
            gate.data<float>()[n] = w;
        }
    });
}

void temporal_merge_backward(CpuContext& ctx, const TemporalMergeGrads& grads, ConstTensor dout,
                             ConstTensor gate, const TemporalMerge& in) {
    const int64_t width = in.c.size(1), code = in.latent_code.size(1);
    const int64_t chunks = chunks_of(in), sequences = sequences_of(in);
    const float *latent_bias = in.latent_bias.data<float>(), *chunk_bias = in.chunk_bias.data<float>();
    Arena::Frame frame(ctx.scratch(), "temporal_merge_backward");
    float* dz = frame.take(DType::kF32, {in.c.size(0)}).data<float>();
    float* sums = frame.take(DType::kF32, {sequences * chunks, width}).data<float>();
    parallel_for(ctx, sequences * chunks, 2 * work(in), [&](int64_t i) {
        chunk_backward(grads, dout, gate, in, chunk_of(in, i / chunks, i % chunks), sums + i * width, dz);
    });

    float* dz_sums = frame.take(DType::kF32, {chunks}).data<float>();
    parallel_for(ctx, chunks, sequences * work(in), [&](int64_t j) {
        float* to = row_of(grads.dchunk_code, j);
        std::fill_n(to, code, 0.0f);
        dz_sums[j] = 0;
        for (int64_t s = 0; s < sequences; ++s) {
            const Chunk chunk = chunk_of(in, s, j);
            for (int64_t n = chunk.begin; n < chunk.end; ++n) {
                const float* latent_code = row_of(in.latent_code, n);
                for (int64_t i = 0; i < code; ++i) to[i] += dz[n] * (latent_code[i] + latent_bias[i]);
                dz_sums[j] += dz[n];
            }
        }
    });

    float *dlatent_bias = grads.dlatent_bias.data<float>(), *dchunk_bias = grads.dchunk_bias.data<float>();
    if (grads.bias_update == Update::kAssign) {
        std::fill_n(dlatent_bias, code, 0.0f);
        std::fill_n(dchunk_bias, code, 0.0f);
    }
    for (int64_t j = 0; j < chunks; ++j)
        for (int64_t i = 0; i < code; ++i) {
            dlatent_bias[i] += dz_sums[j] * (row_of(in.chunk_code, j)[i] + chunk_bias[i]);
            dchunk_bias[i] += row_of(grads.dchunk_code, j)[i];
        }
}

int64_t temporal_merge_backward_scratch_bytes(CpuContext&, const TemporalMerge& in) {
    const auto floats = [](int64_t count) { return align_up(count * size_of(DType::kF32)); };
    return floats(in.c.size(0)) + floats(sequences_of(in) * chunks_of(in) * in.c.size(1)) +
           floats(chunks_of(in));
}

}  // namespace pastur
