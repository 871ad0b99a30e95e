#include "engine/train/data_failure.h"

#include <new>

namespace pastur {

int failure_status(const std::exception_ptr& failure) {
    if (!failure) return 0;
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        return 1 + static_cast<int>(error.code());
    } catch (const std::bad_alloc&) {
        return 1 + static_cast<int>(ExitCode::kNoDevice);
    } catch (...) {
        return 1 + static_cast<int>(ExitCode::kIo);
    }
}

void fail_data(int status, const std::exception_ptr& here) {
    const auto code = static_cast<ExitCode>(status - 1);
    if (!here) throw DataFailure(code, "");
    try {
        std::rethrow_exception(here);
    } catch (const std::bad_alloc&) {
        throw DataFailure(code, "out of host memory for the next step's data");
    } catch (const std::exception& error) {
        throw DataFailure(code, error.what());
    }
}

}  // namespace pastur
