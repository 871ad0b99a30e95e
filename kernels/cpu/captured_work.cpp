#include "kernels/base/captured_work.h"

namespace pastur {
namespace {

class CpuCapturedWork final : public CapturedWork {
  public:
    void run(size_t, const std::function<void()>& queue) override { queue(); }
    void forget() override {}
    int64_t replays() const override { return 0; }
};

}  // namespace

std::unique_ptr<CapturedWork> make_captured_work(CpuContext&) {
    return std::make_unique<CpuCapturedWork>();
}

}  // namespace pastur
