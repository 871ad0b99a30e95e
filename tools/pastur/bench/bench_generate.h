#pragma once
// `pastur bench --generate`: prefill and decoding of attention variants.
#include <string>
#include <vector>

#include "engine/bench/bench_generate.h"

namespace pastur {

struct GenerateBenchArguments {
    bool on = false;
    std::string batch;    ///< numbers separated by commas; empty: the device's default
    int64_t context = 0;  ///< 0: the device's default
};

/// Throws (kUsage) if the list of batches is none.
GenerateBenchOptions generate_options(const GenerateBenchArguments& arguments, int64_t steps, bool cuda);

/// Measures every config, prints a table line by line and writes `json`, unless it is empty.
void run_generate_bench(Context& ctx, std::vector<Config> configs, const GenerateBenchOptions& options,
                        const std::string& json);

}  // namespace pastur
