#include "engine/bench/links.h"

#include <algorithm>
#include <chrono>

#include "engine/model/measure.h"
#include "kernels/fill.h"

namespace pastur {
namespace {

double seconds_of(Context& ctx, Comm& comm, const Tensor& x) {
    std::vector<double> times;
    for (int i = 0; i < 9; ++i) {
        comm.barrier();
        const auto begin = std::chrono::steady_clock::now();
        comm.begin_all_reduce(ctx, x, DType::kF32);
        comm.finish(ctx);
        synchronize(ctx);
        times.push_back(seconds_since(begin));
    }
    return quantile(times, 0.5);
}

}  // namespace

Links measure_links(Context& ctx, Comm& comm, const Links& otherwise) {
    if (comm.size() == 1) return otherwise;
    Links links = otherwise;
    const double others = comm.size() - 1;
    const int64_t few = comm.size() * 64, many = comm.size() * (int64_t{4} << 20) / comm.size();
    const Buffer buffer = allocate(ctx, many * size_of(DType::kF32));
    const Tensor x(buffer.data(), DType::kF32, {many});
    fill(ctx, x, 0.0f);
    const double brief = seconds_of(ctx, comm, x.slice(0, 0, few)), long_one = seconds_of(ctx, comm, x);
    links.alpha_s = brief / 2 / others;
    links.bytes_per_s = 2 * others / comm.size() * static_cast<double>(many * size_of(DType::kF32)) /
                        std::max(long_one - brief, 1e-9);
    links.bytes_per_s_beyond = links.bytes_per_s;
    return links;
}

}  // namespace pastur
