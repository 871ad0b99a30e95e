#include "tools/pastur/failure.h"

#include <new>
#include <system_error>

namespace pastur {

Failure current_failure() {
    try {
        throw;
    } catch (const Error& error) {
        return {error.code(), error.what()};
    } catch (const std::bad_alloc&) {
        return {ExitCode::kNoDevice, "out of host memory"};
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::resource_unavailable_try_again)  // of std::thread and std::async
            return {ExitCode::kNoDevice, "raise `ulimit -u` and `ulimit -v`: a thread cannot be started: " +
                                             error.code().message()};
        return {ExitCode::kIo, error.what()};  // of std::filesystem, and of {fmt} printing to a full disk
    } catch (const std::exception& error) {
        return {ExitCode::kOther, error.what()};
    }
}

}  // namespace pastur
