#pragma once
// A study as an array of Slurm jobs.
#include <string>

#include "tools/pastur/study/study_arguments.h"
#include "tools/pastur/study/study_runs.h"

namespace pastur {

/// The batch script <out>/study.sbatch: a task of the array trains one of the chosen runs that are not done by
/// `pastur study ... --stage runs --only RUN` and requeues itself on 75. `bash study.sbatch` submits three jobs: data
/// (if the study makes it and it is missing), then the array, then the results, whatever became of the runs.
std::string slurm_script(const Study& study, const StudyArguments& arguments);

/// Writes the script and, unless arguments.submit is false, submits it. Returns the exit code. Throws (kUsage) for
/// options that Slurm decides, and (kOther) if sbatch fails.
int submit_study(const Study& study, const StudyArguments& arguments);

}  // namespace pastur
