#include "kernels/cpu/gemm.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace pastur {

void gemm(const Gemm& g, float alpha) {
    const auto narrow = [](int64_t value) { return static_cast<blasint>(value); };
    cblas_sgemm(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans,
                g.transpose_b ? CblasTrans : CblasNoTrans, narrow(g.m), narrow(g.n), narrow(g.k), alpha, g.a,
                narrow(g.lda), g.b, narrow(g.ldb), g.beta, g.c, narrow(g.ldc));
}

void parallel_gemm(CpuContext& ctx, const Gemm& g) {
    constexpr int64_t kGrain = 16;  // a multiple of the register tile of every sgemm kernel of OpenBLAS
    const bool split_rows = g.m >= g.n;
    const int64_t extent = split_rows ? g.m : g.n;
    const int64_t grains = (extent + kGrain - 1) / kGrain;
    const int64_t bands = std::min<int64_t>(ctx.threads(), grains);
    parallel_for(ctx, bands, g.m * g.n * g.k / std::max<int64_t>(bands, 1), [&](int64_t i) {
        const int64_t begin = grains * i / bands * kGrain;
        const int64_t end = std::min(extent, grains * (i + 1) / bands * kGrain);
        Gemm band = g;
        if (split_rows) {
            band.m = end - begin;
            band.a += g.transpose_a ? begin : begin * g.lda;
            band.c += begin * g.ldc;
        } else {
            band.n = end - begin;
            band.b += g.transpose_b ? begin * g.ldb : begin;
            band.c += begin;
        }
        gemm(band);
    });
}

}  // namespace pastur
