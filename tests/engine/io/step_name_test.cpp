#include "engine/io/step_name.h"

#include <gtest/gtest.h>

namespace pastur {
namespace {

TEST(StepName, IsReadBack) {
    EXPECT_EQ(step_name(0), "step_00000000");
    EXPECT_EQ(step_name(100), "step_00000100");
    for (const int64_t step : {int64_t{0}, int64_t{7}, int64_t{99999999}, int64_t{123456789012}})
        EXPECT_EQ(step_of_name(step_name(step)), step);
}

TEST(StepName, IsNoOtherName) {
    for (const char* name : {"", "step_", "step_100", "step_0000010x", "step_00000100.npz", "step_-0000100",
                             ".tmp-step_00000100", "step_+0000100", "step_99999999999999999999", "latest"})
        EXPECT_EQ(step_of_name(name), -1) << name;
}

}  // namespace
}  // namespace pastur
