#include "tools/pastur/doctor/all_reduce.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/io/json_text.h"
#include "kernels/fill.h"

namespace pastur {
namespace {

const char* name_of(Transport transport) {
    switch (transport) {
        case Transport::kNone:
            return "none";
        case Transport::kMpi:
            return "MPI";
        case Transport::kTcp:
            return "TCP";
        case Transport::kNccl:
            return "NCCL";
    }
    return "";
}

/// Median of the seconds that an all-reduce of x takes, over `times` of them after a first one.
double seconds_of(Context& ctx, Comm& comm, const Tensor& x, int times) {
    std::vector<double> seconds;
    for (int i = 0; i <= times; ++i) {
        synchronize(ctx);
        comm.barrier();
        const auto begin = std::chrono::steady_clock::now();
        comm.all_reduce_sum(ctx, x);
        synchronize(ctx);
        if (i > 0)
            seconds.push_back(
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::nth_element(seconds.begin(), seconds.begin() + times / 2, seconds.end());
    return seconds[static_cast<size_t>(times / 2)];
}

/// Whether the sum of rank + 1 over the ranks is right everywhere.
bool is_exact(Context& ctx, Comm& comm, const Tensor& x) {
    const auto ranks = static_cast<float>(comm.size());
    fill(ctx, x, static_cast<float>(comm.rank() + 1));
    comm.all_reduce_sum(ctx, x);
    std::vector<float> sums(static_cast<size_t>(x.numel()));
    download(ctx, as_tensor(std::span(sums)), x);
    return std::all_of(sums.begin(), sums.end(), [&](float sum) { return sum == ranks * (ranks + 1) / 2; });
}

}  // namespace

AllReduceSpeed measure_all_reduce(Context& ctx, Comm& comm) {
    constexpr int64_t kFew = 2, kMany = int64_t{16} << 20;  // f32
    constexpr int kTimesOfFew = 101, kTimesOfMany = 7;
    const Buffer buffer = allocate(ctx, kMany * size_of(DType::kF32));
    const Tensor x(buffer.data(), DType::kF32, {kMany});
    AllReduceSpeed speed{name_of(comm.transport()), comm.size()};
    speed.exact = is_exact(ctx, comm, x);
    fill(ctx, x, 0.0f);  // sums of what was summed would grow
    const double ranks = comm.size();
    speed.latency_us = 1e6 * seconds_of(ctx, comm, x.slice(0, 0, kFew), kTimesOfFew);
    const double moved = 2 * (ranks - 1) / ranks * static_cast<double>(x.nbytes());
    speed.gbytes_per_s = moved / seconds_of(ctx, comm, x, kTimesOfMany) / 1e9;
    return speed;
}

std::string to_json_line(const AllReduceSpeed& speed) {
    const nlohmann::ordered_json json = {{"transport", speed.transport},
                                         {"ranks", speed.ranks},
                                         {"latency_us", speed.latency_us},
                                         {"gbytes_per_s", speed.gbytes_per_s},
                                         {"exact", speed.exact}};
    return json.dump();
}

bool parse_speed(const std::string& output, AllReduceSpeed& speed) {
    const size_t begin = output.rfind("{\"transport\"");
    if (begin == output.npos) return false;
    const nlohmann::json json = parse_json(output.substr(begin, output.find('\n', begin) - begin));
    if (!json.is_object()) return false;
    const auto transport = json.find("transport"), exact = json.find("exact");
    if (transport == json.end() || !transport->is_string()) return false;
    speed.transport = transport->get<std::string>();
    speed.ranks = static_cast<int>(integer_or_minus_one(json, "ranks"));
    speed.latency_us = number_or_nan(json, "latency_us");
    speed.gbytes_per_s = number_or_nan(json, "gbytes_per_s");
    speed.exact = exact != json.end() && *exact == true;
    return true;
}

}  // namespace pastur
