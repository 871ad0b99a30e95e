// Replayed work computes the same as work that is queued again.
#include "kernels/base/captured_work.h"

#include <algorithm>

#include "kernels/base/op_timer.h"
#include "kernels/reduce.h"
#include "tests/support/harness.h"

namespace pastur::test {
namespace {

struct Length {
    int64_t count;
    std::string name() const { return fmt::format("n{}", count); }
};

class Captured : public OpTest<Length> {
  protected:
    Captured() { reserve_scratch(ctx(), sum_scratch_bytes(ctx(), shape().count)); }

    Tensor total() const { return Tensor(totals_.data(), DType::kF64, {1}); }
    double value() const {
        double value = 0;
        download(ctx(), as_tensor(std::span(&value, 1)), total());
        return value;
    }
    /// Sets every element of x to `each`, runs work that adds the sum of x to the total, and checks the
    /// total.
    void add(CapturedWork& work, float each, const std::function<void()>& more = {}) {
        const std::vector<float> host(static_cast<size_t>(shape().count), each);
        upload(ctx(), x_, as_tensor(std::span(host)));
        expected_ += each * static_cast<double>(shape().count);
        work.run(0, [this, &more] {
            sum(ctx(), total(), x_, Update::kAccumulate);
            if (more) more();
        });
        EXPECT_EQ(value(), expected_);
    }
    void start() {
        const double zero = 0;
        upload(ctx(), total(), as_tensor(std::span(&zero, 1)));
    }
    int64_t on_gpu(int64_t count) const { return on_cuda() ? count : 0; }

    Buffer totals_ = allocate(ctx(), size_of(DType::kF64));
    Buffer numbers_ = allocate(ctx(), shape().count* size_of(DType::kF32));
    Tensor x_{numbers_.data(), DType::kF32, {shape().count}};
    double expected_ = 0;
};

TEST_P(Captured, EachRunReadsTheCurrentNumbers) {
    start();
    const auto work = make_captured_work(ctx());
    for (const float each : {1.0f, 2.0f, -3.0f, 4.0f, 0.5f}) add(*work, each);
    EXPECT_EQ(work->replays(), on_gpu(4)) << "all but the first call";
}

TEST_P(Captured, KindsHaveSeparateGraphs) {
    start();
    const auto work = make_captured_work(ctx());
    const std::vector<float> host(static_cast<size_t>(shape().count), 1.0f);
    upload(ctx(), x_, as_tensor(std::span(host)));
    const auto n = static_cast<double>(shape().count);
    for (int round = 0; round < 4; ++round) {
        work->run(1, [this] { sum(ctx(), total(), x_, Update::kAssign); });
        EXPECT_EQ(value(), n);
        work->run(0, [this] { sum(ctx(), total(), x_, Update::kAccumulate); });
        EXPECT_EQ(value(), 2 * n);
    }
    EXPECT_EQ(work->replays(), on_gpu(6));
}

TEST_P(Captured, WorkIsQueuedWhileATimerIsAttached) {
    start();
    const auto work = make_captured_work(ctx());
    for (int i = 0; i < 3; ++i) add(*work, 1);
    {
        OpTimer timer(ctx());
        for (int i = 0; i < 3; ++i) add(*work, 2);
        EXPECT_EQ(timer.collect()[static_cast<size_t>(OpFamily::kReduce)].calls, 3);
    }
    EXPECT_EQ(work->replays(), on_gpu(2));
    add(*work, 1);
    EXPECT_EQ(work->replays(), on_gpu(3));
}

TEST_P(Captured, GraphsAreDroppedWithTheirScratch) {
    start();
    const auto work = make_captured_work(ctx());
    for (int i = 0; i < 3; ++i) add(*work, 1);
    // Another buffer gets the memory of the old arena.
    const int64_t bytes = std::max(sum_scratch_bytes(ctx(), shape().count), kAlignment);
    reserve_scratch(ctx(), 0);
    const Buffer other = allocate(ctx(), bytes);
    const Tensor overlapping(other.data(), DType::kF32, {bytes / size_of(DType::kF32)});
    const std::vector<float> before(static_cast<size_t>(overlapping.numel()), 3.5f);
    upload(ctx(), overlapping, as_tensor(std::span(before)));
    reserve_scratch(ctx(), bytes);
    for (int i = 0; i < 3; ++i) add(*work, 2);
    std::vector<float> after(before.size());
    download(ctx(), as_tensor(std::span(after)), overlapping);
    EXPECT_EQ(after, before);
}

TEST_P(Captured, ForgottenWorkMayHaveOtherShapes) {
    start();
    const auto work = make_captured_work(ctx());
    const std::vector<float> host(static_cast<size_t>(shape().count), 1.0f);
    upload(ctx(), x_, as_tensor(std::span(host)));
    const int64_t part = (shape().count + 1) / 2;
    for (const int64_t count : {part, shape().count, part}) {
        work->forget();
        for (int i = 0; i < 3; ++i) {
            work->run(0, [&] { sum(ctx(), total(), x_.slice(0, 0, count), Update::kAssign); });
            EXPECT_EQ(value(), static_cast<double>(count));
        }
    }
    EXPECT_EQ(work->replays(), on_gpu(6)) << "two of each three calls";
}

TEST_P(Captured, WorkThatCannotBeCapturedIsQueued) {
    start();
    const auto work = make_captured_work(ctx());
    testing::internal::CaptureStderr();
    for (int i = 0; i < 4; ++i) add(*work, 1, [this] { value(); });
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(work->replays(), 0);
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), on_gpu(1)) << said;
    EXPECT_EQ(said.find("CUDA graph capture failed") == 0, on_cuda()) << said;
    // Other work on this context can still be captured.
    const auto second = make_captured_work(ctx());
    for (int i = 0; i < 3; ++i) add(*second, 2);
    EXPECT_EQ(second->replays(), on_gpu(2));
}

TEST_P(Captured, AnErrorOfTheWorkIsThrown) {
    start();
    const auto work = make_captured_work(ctx());
    add(*work, 1);
    testing::internal::CaptureStderr();
    EXPECT_THROW(work->run(0, [] { fail(ExitCode::kOther, "no"); }), Error);
    testing::internal::GetCapturedStderr();
}

INSTANTIATE_TEST_SUITE_P(Kernels, Captured, every_backend<Length>({{1}, {70001}}), case_name<Length>);

}  // namespace
}  // namespace pastur::test
