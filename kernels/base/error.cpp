#include "kernels/base/error.h"

#include <cerrno>
#include <cstring>

namespace pastur {

void fail_io(const std::string& what, const std::string& path) {
    fail(ExitCode::kIo, "{} {}: {}", what, path, std::strerror(errno));
}

namespace detail {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    const char* relative = std::strstr(file, "kernels/");
    throw Error(ExitCode::kOther,
                fmt::format("{}:{}: {} (expected {})", relative ? relative : file, line, message, condition));
}

}  // namespace detail
}  // namespace pastur
