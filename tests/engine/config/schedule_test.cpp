#include "engine/config/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pastur {
namespace {

TEST(Schedule, WarmsUpAndDecaysAsDocumented) {
    TrainConfig config;
    config.steps = 110;
    config.warmup_steps = 10;
    config.lr = 2.0;
    config.final_lr_fraction = 0.1;
    EXPECT_DOUBLE_EQ(learning_rate(config, 0), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate(config, 9), 2.0);
    EXPECT_DOUBLE_EQ(learning_rate(config, 10), 2.0);
    EXPECT_DOUBLE_EQ(learning_rate(config, 109), 0.2);
    EXPECT_NEAR(learning_rate(config, 59), 2.0 * (0.1 + 0.9 * 0.5 * (1 + std::cos(M_PI * 49 / 99))), 1e-12);
    config.schedule = Schedule::kConstant;
    EXPECT_DOUBLE_EQ(learning_rate(config, 109), 2.0);
    config.schedule = Schedule::kWsd;
    EXPECT_DOUBLE_EQ(learning_rate(config, 80), 2.0);
    EXPECT_DOUBLE_EQ(learning_rate(config, 109), 0.2);
    EXPECT_NEAR(learning_rate(config, 98), 1.1, 1e-12);  // halfway through the last fifth
}

}  // namespace
}  // namespace pastur
