#!/usr/bin/env bash
# Compares the step time that `pastur plan --measure` predicts for 1, 2 and 4 CPU ranks with the one that
# `pastur train` then measures. Usage: tools/check_plan.sh [PASTUR] [--section.key=value ...]
#
# Each rank computes with one thread. With fewer cores than ranks, ranks share cores. The prediction includes
# that for computation, which is measured on all ranks at once, but not for waiting: a rank that polls for
# others takes CPU time from them.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

pastur=build-cpu/pastur
if (($# > 0)) && [[ $1 != --* ]]; then
    pastur=$1
    shift
fi
pastur=$(readlink -f "$pastur")
[[ -x $pastur ]] || die "build Pastur or give its path: no program at $pastur"
have mpirun || die "mpirun is missing: run tools/install_deps.sh"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cd "$folder"
{
    "$pastur" data synth --docs 3000 --seed 1 --out stories.txt &&
        "$pastur" data prepare --input stories.txt --tokenizer train:2048 --out data --val-fraction 0.05
} >prepare.log 2>&1 || die "$(cat prepare.log)"
cat >recipe.toml <<'TEXT'
[model]
preset = "nano"
[data]
dir = "data"
seq_len = 128
[train]
steps = 30
global_batch = 16
micro_batch = 4
val_every = 0
val_tokens = 512
[diagnostics]
every = 0
[run]
log_every = 1
tensorboard = false
TEXT

printf '%d cores\n%-6s%14s%14s%14s%10s\n' "$(nproc --all)" ranks "predicted ms" "measured ms" "exposed ms" "error"
for ranks in 1 2 4; do
    launch=(mpirun -q --oversubscribe --bind-to none -np "$ranks" "$pastur")
    plan=$("${launch[@]}" plan recipe.toml --measure --device cpu "$@" | grep '^predicted step')
    "${launch[@]}" train recipe.toml --device cpu --run "run$ranks" "$@" >/dev/null
    # The median step time, without the first five steps.
    measured=$(grep '"event":"train"' "run$ranks/metrics.jsonl" | tail -n +6 |
        sed 's/.*"step_ms":\([0-9.e+-]*\).*/\1/' | sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }')
    awk -v ranks="$ranks" -v plan="$plan" -v measured="$measured" 'BEGIN {
        split(plan, words, /: |,? ms|of which /)
        printf "%-6d%14.2f%14.2f%14.2f%9.1f%%\n", ranks, words[2], measured, words[4], (words[2] / measured - 1) * 100
    }'
done
