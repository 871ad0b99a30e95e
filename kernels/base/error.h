#pragma once
// How the program fails: an exception with the exit code and one line of text.
#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace pastur {

/// Exit codes of the program. Scripts rely on them.
enum class ExitCode : int {
    kOk = 0,
    kOther = 1,
    kUsage = 2,          ///< bad command line or recipe
    kCorruptData = 65,   ///< a shard, tokenizer or checkpoint is damaged or does not match the run
    kMissingInput = 66,  ///< an input file or folder does not exist
    kNoDevice = 69,      ///< no usable device, or not enough memory
    kRankLost = 71,      ///< a rank died or a collective timed out
    kNonFinite = 72,     ///< loss, gradient or weight became NaN or infinite
    kIo = 74,            ///< a read, write, fsync, rename or open failed
    kRequeue = 75,       ///< stopped on request after a checkpoint: submit the job again
};

class Error : public std::runtime_error {
  public:
    Error(ExitCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
    ExitCode code() const { return code_; }

  private:
    ExitCode code_;
};

/// Throws an Error with the formatted message, which says what failed, where, and what was expected.
template <typename... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
    throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws (kIo) "<what> <path>: <strerror(errno)>".
[[noreturn]] void fail_io(const std::string& what, const std::string& path);

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);
}

}  // namespace pastur

/// Checks an internal contract, such as the shapes and dtypes of an op. A failure is a bug in the caller and
/// throws an Error (kOther) with file and line. Failures that the user can cause call fail() with their own
/// text.
#define PASTUR_CHECK(condition, ...)                                                                  \
    do {                                                                                              \
        if (!(condition))                                                                             \
            ::pastur::detail::check_failed(__FILE__, __LINE__, #condition, fmt::format(__VA_ARGS__)); \
    } while (false)
