#include "kernels/base/interval_clock.h"

namespace pastur {

std::unique_ptr<IntervalClock> make_interval_clock(Context& ctx) {
    return std::visit([](auto& c) { return make_interval_clock(c); }, ctx);
}

}  // namespace pastur
