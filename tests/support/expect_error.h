#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "kernels/base/error.h"

namespace pastur::test {

/// Runs `action` and expects an Error with this code and a message of one line that contains all `parts`.
template <typename Action>
void expect_error(ExitCode code, std::initializer_list<std::string> parts, Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        const std::string text = error.what();
        EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << text;
        EXPECT_EQ(text.find('\n'), std::string::npos) << text;
        for (const std::string& part : parts)
            EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
        return;
    }
    ADD_FAILURE() << "nothing was thrown";
}

}  // namespace pastur::test
