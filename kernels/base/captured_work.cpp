#include "kernels/base/captured_work.h"

namespace pastur {

std::unique_ptr<CapturedWork> make_captured_work(Context& ctx) {
    return std::visit([](auto& c) { return make_captured_work(c); }, ctx);
}

}  // namespace pastur
