#pragma once
// What an exception means for the user.
#include <string>

#include "kernels/base/error.h"

namespace pastur {

struct Failure {
    ExitCode code;
    std::string text;
};

/// Exit code and text of the exception that is being handled; call it in a catch block.
Failure current_failure();

}  // namespace pastur
