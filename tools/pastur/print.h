#pragma once
// Text of commands on standard output and standard error, safe for a terminal whatever the files hold that it is
// made from.
#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "kernels/base/printable.h"

namespace pastur {

/// Prints formatted text on standard output. Control characters but line feeds and tabs are escaped.
template <typename... Args>
void print_text(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print("{}", printable_lines(fmt::format(format, std::forward<Args>(args)...)));
}

/// Prints formatted text on standard error, as print_text() does.
template <typename... Args>
void print_note(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print(stderr, "{}", printable_lines(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace pastur
