#include "kernels/base/trace.h"

#if defined(PASTUR_HAVE_NVTX)
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <array>
#endif

namespace pastur {

#if defined(PASTUR_HAVE_NVTX)
TraceRange::TraceRange(const char* name) {
    nvtxRangePushA(name);
}
TraceRange::TraceRange(const char* name, int64_t number) {
    std::array<char, 64> text;
    *fmt::format_to_n(text.data(), text.size() - 1, "{} {}", name, number).out = '\0';
    nvtxRangePushA(text.data());
}
TraceRange::~TraceRange() {
    nvtxRangePop();
}
#else
TraceRange::TraceRange(const char*) {}
TraceRange::TraceRange(const char*, int64_t) {}
TraceRange::~TraceRange() = default;
#endif

bool start_profiler(Context& ctx) {
    return std::visit([](auto& c) { return start_profiler(c); }, ctx);
}

void stop_profiler(Context& ctx) {
    std::visit([](auto& c) { stop_profiler(c); }, ctx);
}

}  // namespace pastur
