// Text from files that cannot steer a terminal.
#include "kernels/base/printable.h"

#include <gtest/gtest.h>

namespace pastur {
namespace {

TEST(Printable, KeepsText) {
    for (const char* text : {"", "plain \\ text \\n", "\u00e9 \u4e2d \U0001f600", "\u00a0\u2581 \u0628"})
        EXPECT_EQ(printable(text), text);
    EXPECT_EQ(printable_lines("two\n\tlines\n"), "two\n\tlines\n");
}

TEST(Printable, EscapesWhatSteersATerminal) {
    EXPECT_EQ(printable("\x1b[2J\x1b]0;title\x07"), "\\u001b[2J\\u001b]0;title\\u0007");
    EXPECT_EQ(printable("a\r\nb\tc\x7f"), "a\\r\\nb\\tc\\u007f");
    EXPECT_EQ(printable(std::string_view("\0x", 2)), "\\u0000x");
    EXPECT_EQ(printable("\xc2\x9b"
                        "31m"),
              "\\u009b31m")
        << "a C1 control in UTF-8";
    EXPECT_EQ(printable("\u202egnp.exe\u2066\u200e\ufeff\u2028"),
              "\\u202egnp.exe\\u2066\\u200e\\ufeff\\u2028");
    EXPECT_EQ(printable_lines("a\rb\x1b\n"), "a\\rb\\u001b\n");
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
    EXPECT_EQ(printable("\x9b"
                        "31m"),
              "\\x9b31m")
        << "a C1 control in Latin-1";
    EXPECT_EQ(printable("\xe4\xb8"), "\\xe4\\xb8") << "cut";
    EXPECT_EQ(printable("\xc0\x9b|\xe0\x82\x9b|\xf8\x80"), "\\xc0\\x9b|\\xe0\\x82\\x9b|\\xf8\\x80")
        << "too long";
    EXPECT_EQ(printable("\xed\xa0\x80|\xf4\x90\x80\x80"), "\\xed\\xa0\\x80|\\xf4\\x90\\x80\\x80");
}

TEST(Printable, ASecondCallChangesNothing) {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    const std::string once = printable(all + "\u202e");
    EXPECT_EQ(printable(once), once);
    for (const char c : once) EXPECT_TRUE(c >= ' ' && c <= '~') << static_cast<int>(c);
}

}  // namespace
}  // namespace pastur
