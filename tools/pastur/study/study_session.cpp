#include "tools/pastur/study/study_session.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/io/logger.h"
#include "engine/train/stop_request.h"
#include "kernels/base/error.h"
#include "tools/pastur/print.h"

namespace pastur {

bool is_chosen(const StudyCell& cell, const std::vector<std::string>& patterns) {
    return patterns.empty() || std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
               return ::fnmatch(pattern.c_str(), cell.name.c_str(), 0) == 0;
           });
}

StudySession::StudySession(Study& study, const StudyArguments& arguments, const CellSlots& slots,
                           double max_seconds)
    : study_(study),
      runner_(study.out(), arguments.device, slots),
      slots_(slots.count),
      max_seconds_(max_seconds),
      write_json_(arguments.stage == StudyArguments::Stage::kAll) {
    for (const StudyCell& cell : study.design().cells)
        if (is_chosen(cell, arguments.only) && study.state(cell).status != CellState::Status::kDone)
            waiting_.push_back(&cell);
    std::reverse(waiting_.begin(), waiting_.end());
}

bool StudySession::run() {
    // It lists the runs for those who watch the study (`pastur report --watch`).
    if (write_json_) study_.write_json();
    while (!waiting_.empty() || runner_.running() > 0) {
        if (!stopping_ && stop_requested(study_.out())) stop();
        for (size_t slot = 0; slot < slots_ && !waiting_.empty() && !stopping_; ++slot)
            if (runner_.is_free(slot)) start(slot);
        if (stopping_) waiting_.clear();
        for (auto ended = runner_.poll(); ended.slot != SIZE_MAX; ended = runner_.poll()) finish(ended);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return stopping_;
}

void StudySession::stop() {
    stopping_ = true;
    print_text("stopping ({}): runs finish their step and write a checkpoint\n", stop_reason(study_.out()));
    std::fflush(stdout);
    runner_.stop();
}

void StudySession::start(size_t slot) {
    const StudyCell& cell = *waiting_.back();
    waiting_.pop_back();
    study_.refresh(cell.name);
    const CellState& state = study_.state(cell);
    if (state.status == CellState::Status::kDone) return;  // by another process
    const double spent = std::chrono::duration<double>(Clock::now() - begin_).count();
    print_text("{}: {} at step {} of {}\n", cell.name, state.step > 0 ? "resumes" : "starts", state.step,
               state.steps);
    std::fflush(stdout);
    runner_.start(cell, slot, max_seconds_ > 0 ? std::max(1.0, max_seconds_ - spent) : 0);
}

void StudySession::finish(const CellRunner::Ended& ended) {
    study_.refresh(ended.cell);
    const CellState& state = study_.state(study_.cell(ended.cell));
    std::string what = name_of(state.status);
    if (state.status == CellState::Status::kFailed)
        what += " with exit code " + std::to_string(ended.code) + ": " + state.error;
    if (ended.code != 0 && ended.code != static_cast<int>(ExitCode::kRequeue) && state.error.empty())
        what = state.status == CellState::Status::kRunning && ended.code == static_cast<int>(ExitCode::kUsage)
                   ? "is trained by another process"
                   : fmt::format("ended with {}; its output is in {}",
                                 ended.code > 128 ? fmt::format("signal {}", ended.code - 128)
                                                  : fmt::format("exit code {}", ended.code),
                                 log_of(study_.out(), study_.cell(ended.cell)).string());
    const double left = study_.seconds_left();
    print_text("{}: {}; {} of {} runs done{}\n", ended.cell, what, study_.count(CellState::Status::kDone),
               study_.design().cells.size(),
               std::isfinite(left) && left > 0
                   ? fmt::format(", about {} of training left", format_duration(left))
                   : "");
    std::fflush(stdout);
    if (write_json_) study_.write_json();
}

}  // namespace pastur
