#include "tools/pastur/study/study_slurm.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "data/output.h"
#include "kernels/base/error.h"
#include "tools/pastur/print.h"
#include "tools/pastur/study/study_session.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

/// The text as one word of Bash.
std::string quoted(const std::string& text) {
    std::string word = "'";
    for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return word + "'";
}

std::string words(const std::vector<std::string>& texts) {
    std::string line;
    for (const std::string& text : texts) line += (line.empty() ? "" : " ") + quoted(text);
    return line;
}

/// The command that `pastur study --slurm` was, without what the batch script decides.
std::vector<std::string> command_of(const Study& study, const StudyArguments& arguments) {
    const auto joined = [](const auto& items) {
        std::string text;
        for (const auto& item : items) text += (text.empty() ? "" : ",") + fmt::format("{}", item);
        return text;
    };
    std::vector<std::string> command = {
        "study",    fs::absolute(arguments.design).lexically_normal().string(),
        "--out",    fs::absolute(study.out()).lexically_normal().string(),
        "--device", arguments.device};
    if (arguments.gpus_per_run > 1)
        command.insert(command.end(), {"--gpus-per-run", std::to_string(arguments.gpus_per_run)});
    const auto add = [&](const char* option, const std::string& value) {
        if (!value.empty()) command.insert(command.end(), {option, value});
    };
    add("--variants", joined(arguments.options.variants));
    add("--seeds", joined(arguments.options.seeds));
    for (const std::string& set : arguments.options.sets) add("--set", set);
    for (const std::string& input : arguments.inputs) add("--input", input);
    add("--tokenizer", arguments.tokenizer);
    add("--title", arguments.title);
    add("--notes", arguments.notes);
    for (const auto& [key, value] : arguments.overrides)
        command.push_back(fmt::format("--{}={}", key, value));
    return command;
}

/// Options of sbatch: the GPUs of a task, and for several ranks as many slots on one host for its mpirun.
std::string resources_of_task(const StudyArguments& arguments) {
    const int64_t ranks = arguments.gpus_per_run;
    const bool on_cpu = arguments.device == "cpu";
    if (ranks == 1) return on_cpu ? "" : "--gpus=1";
    return fmt::format("--nodes=1 --ntasks={}", ranks) +
           (on_cpu ? "" : fmt::format(" --gpus-per-node={}", ranks));
}

/// What Slurm reads before it starts the script, then what the script is about.
constexpr const char* kHead = R"sh(#!/usr/bin/env bash
# Trains the runs of the study {name} as an array of Slurm jobs. Written by `pastur study --slurm`.
#
#   bash {script}        submits the jobs: data, one task per run, results
#
# Two minutes before its time limit a task checkpoints and requeues itself. Edit the options below, or set them by the
# environment (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT).
#SBATCH --job-name=pastur-{name}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{logs}/slurm-%x-%j.log"
set -uo pipefail
cd {folder} || exit

script={quoted_script}
program=${{PASTUR:-{program}}}
study=({command})
out={out}
makes_data={makes_data}  # 1: the study makes data, which is missing
options=({options})  # of all jobs
resources=({resources})  # of a task
limit={limit}  # of tasks at the same time, written %N
runs=({runs})
)sh";

constexpr const char* kBody = R"sh(
submit() {
    local after=() data='' tasks='' results
    if ((makes_data)); then
        data=$(sbatch --parsable "${options[@]}" "$script" data) || return
        after=("--dependency=afterok:${data%%;*}" --kill-on-invalid-dep=yes)
    fi
    if ((${#runs[@]} > 0)); then
        tasks=$(sbatch --parsable "${resources[@]}" "${options[@]}" "${after[@]}" --array="0-$((${#runs[@]} - 1))$limit" \
            "$script" runs) || return
        after=("--dependency=afterany:${tasks%%;*}")
    fi
    results=$(sbatch --parsable "${options[@]}" "${after[@]}" "$script" results) || return
    echo "submitted${data:+ data $data,}${tasks:+ ${#runs[@]} runs $tasks,} results $results"
}

if (($# == 0)); then
    mkdir -p "$out/logs"
    submit
    exit
fi

stage=(--stage "$1")
[[ $1 != runs ]] || stage+=(--only "${runs[$SLURM_ARRAY_TASK_ID]}")
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# A signal that comes before the program has a number is handed on afterwards.
step='' asked=''
trap 'asked=USR1; [[ -z $step ]] || kill -USR1 "$step"' USR1
trap 'asked=TERM; [[ -z $step ]] || kill -TERM "$step"' TERM INT
"$program" "${study[@]}" "${stage[@]}" &
step=$!
[[ -z $asked ]] || kill "-$asked" "$step"
# A signal interrupts `wait`, but not the step.
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
    code=$?
done
trap '' USR1
if ((code == 75)) && [[ ! -e $out/STOP ]]; then
    echo "$(date -Is) checkpointed; requeued"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
)sh";

}  // namespace

std::string slurm_script(const Study& study, const StudyArguments& arguments) {
    std::vector<std::string> runs, options;
    for (const StudyCell& cell : study.design().cells)
        if (is_chosen(cell, arguments.only) && study.state(cell).status != CellState::Status::kDone)
            runs.push_back(cell.name);
    std::istringstream text(arguments.slurm_options);
    for (std::string option; text >> option;) options.push_back(option);
    const fs::path out = fs::absolute(study.out()).lexically_normal();
    const auto& data = study.design().data;
    return fmt::format(
               kHead, fmt::arg("name", study.design().name),
               fmt::arg("script", (out / "study.sbatch").string()), fmt::arg("logs", (out / "logs").string()),
               fmt::arg("quoted_script", quoted((out / "study.sbatch").string())),
               fmt::arg("folder", quoted(fs::current_path().string())),
               fmt::arg("program", quoted(fs::read_symlink("/proc/self/exe").string())),
               fmt::arg("command", words(command_of(study, arguments))),
               fmt::arg("out", quoted(out.string())),
               fmt::arg("makes_data", data && data_state(study.out(), *data) == DataState::kMissing ? 1 : 0),
               fmt::arg("options", words(options)), fmt::arg("resources", resources_of_task(arguments)),
               fmt::arg("limit", arguments.jobs > 0 ? fmt::format("%{}", arguments.jobs) : std::string()),
               fmt::arg("runs", words(runs))) +
           kBody;
}

int submit_study(const Study& study, const StudyArguments& arguments) {
    const char* decided = arguments.stage != StudyArguments::Stage::kAll ? "--stage"
                          : !arguments.gpus.empty()                      ? "--gpus"
                          : !arguments.max_time.empty()                  ? "--max-time"
                                                                         : nullptr;
    if (decided) fail(ExitCode::kUsage, "--slurm decides what {} says: leave it out", decided);
    const fs::path script = fs::absolute(study.out() / "study.sbatch").lexically_normal();
    write_file_atomically(script, slurm_script(study, arguments));
    if (!arguments.submit) {
        print_text("{}: submit it with `bash {}`\n", script.string(), script.string());
        return 0;
    }
    const int status = std::system(fmt::format("bash {}", quoted(script.string())).c_str());
    if (status != 0)
        fail(ExitCode::kOther, "sbatch failed, see above; to try again: bash {}", script.string());
    return 0;
}

}  // namespace pastur
