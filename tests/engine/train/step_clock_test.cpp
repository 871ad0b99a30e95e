// Times of steps and of their parts.
#include "engine/train/step_clock.h"

#include <gtest/gtest.h>

#include <thread>

namespace pastur::test {
namespace {

void wait(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(StepClockTest, MeansAreOverTheStepsOfTheWindow) {
    StepClock clock;
    for (int i = 0; i < 2; ++i) {
        clock.begin_step();
        EXPECT_EQ(clock.data([] {
            wait(10);
            return 7;
        }),
                  7);
        clock.diagnostics([] { wait(20); });
        clock.end_step();
        wait(300);  // stands for a validation
    }
    const StepClock::Times times = clock.means();
    EXPECT_GE(times.data_s, 0.010);
    EXPECT_GE(times.diagnostics_s, 0.020);
    EXPECT_GE(times.step_s, times.data_s + times.diagnostics_s);
    EXPECT_LT(times.step_s - times.data_s - times.diagnostics_s, 0.25) << "time between steps was counted";
}

TEST(StepClockTest, ForgetsTheStepsBeforeARestart) {
    StepClock clock;
    clock.begin_step();
    clock.data([] { wait(300); });
    clock.end_step();
    clock.restart();
    clock.data([] { wait(300); });  // before the first step, so not counted
    clock.begin_step();
    clock.end_step();
    EXPECT_LT(clock.means().step_s, 0.25);
    EXPECT_LT(clock.means().data_s, 0.25);
}

}  // namespace
}  // namespace pastur::test
