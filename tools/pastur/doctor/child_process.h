#pragma once
#include <string>
#include <vector>

namespace pastur {

struct ChildResult {
    int code = 0;            ///< exit code, or 128 + the signal
    bool timed_out = false;  ///< it was ended because the time was over
    std::string out, err;    ///< the first 64 KiB of each
};

/// Runs a program with these arguments (arguments[0] is its name), without input, in a process group of its own and in this
/// environment with `variables`, each "NAME=value". After `seconds` the group gets SIGTERM, and two seconds later SIGKILL. Dies
/// with this process. Throws (kIo) if no process can be started.
ChildResult run_child(const std::string& program, std::vector<std::string> arguments,
                      const std::vector<std::string>& variables, double seconds);

}  // namespace pastur
