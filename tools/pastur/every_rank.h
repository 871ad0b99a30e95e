#pragma once
// Failures of a command that runs as one of several ranks.
#include <functional>
#include <optional>

#include "engine/ranks/world.h"
#include "tools/pastur/failure.h"

namespace pastur {

/// Runs what ranks prepare without each other, and ends the job with one line per error if any rank failed. A
/// single rank's exceptions pass.
template <typename Prepare>
auto prepare_on_every_rank(World& world, const Prepare& prepare) {
    if (world.size() == 1) return prepare();
    std::optional<decltype(prepare())> result;
    std::string failure;
    ExitCode code = ExitCode::kOther;
    try {
        result.emplace(prepare());
    } catch (const std::exception&) {
        const Failure found = current_failure();
        failure = found.text;
        code = found.code;
    }
    world.agree_on_failure(failure, static_cast<int>(code));
    return *std::move(result);
}

/// Returns what `run` returns, or the code of JobFailed. Any other exception ends every rank of the job, and is printed
/// with the rank; a single rank's exceptions pass. Communicators outlive the call, because on a lost rank their
/// destructors would wait.
int run_as_rank(World& world, const std::function<int()>& run);

}  // namespace pastur
