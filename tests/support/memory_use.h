#pragma once
// What a call costs: processor time of the process and peak memory.
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>

extern "C" void __asan_init()
    __attribute__((weak));  // defined where the program is linked to AddressSanitizer

namespace pastur::test {

/// Memory is then the sanitizer's. The tests themselves are not instrumented, so the preprocessor does not know.
inline bool sanitized() {
    return &__asan_init != nullptr;
}

struct Cost {
    double seconds = 0;
    int64_t bytes = 0;  ///< by which resident memory was larger at its peak than before the call
};

/// Bytes of a field of /proc/self/status, such as VmRSS or VmHWM (the peak).
inline int64_t status_bytes(const std::string& field) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field + ":")) return std::atoll(line.c_str() + field.size() + 1) * 1024;
    return 0;
}

/// Makes the present resident memory the peak from which it is counted (proc(5), clear_refs).
inline void reset_peak_memory() {
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;
}

/// Calls `work` and measures it. Memory that earlier calls freed is given back to the system first.
template <typename Work>
Cost cost_of(const Work& work) {
    malloc_trim(0);
    reset_peak_memory();
    const int64_t before = status_bytes("VmRSS");
    const std::clock_t begin = std::clock();
    work();
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    return {seconds, std::max<int64_t>(0, status_bytes("VmHWM") - before)};
}

}  // namespace pastur::test
