#!/usr/bin/env bash
# Measures how training scales over the GPUs of this machine, next to what `pastur plan` predicts, and checks that a
# job ends when a rank is killed or stopped and that its checkpoint continues on two ranks.
#
#   tools/peers/scaling.sh                                 all GPUs of the machine
#   RANKS="4 8" tools/peers/scaling.sh --steps 10          other numbers of ranks; arguments go to `pastur bench`
#   DEVICE=cpu RANKS="2 4" MODELS=nano-mha SHARDED= tools/peers/scaling.sh --steps 5 --train.global_batch=8
#
# Each model is measured with train.zero = 0 and 1: rank 0 alone, then all ranks with its work each and with its work
# divided. Ranks are started by environment variables, so MPI is not needed.
#
# Environment variables:
#   PASTUR   the program (default: build/pastur)
#   DEVICE   cuda or cpu (default: cuda)
#   RANKS    numbers of ranks, 2, 4 or 8 (default: the number of GPUs)
#   MODELS   recipes, separated by ";", each with its settings (default: 130m and 1b)
#   SHARDED  such recipes that are measured with train.zero = 1 alone (default: 7b)
#   OUT      the folder for JSON files, plans and runs (default: scaling-out; it must not exist)
# shellcheck source=tools/lib.sh
here=$PWD
. "$(dirname "$0")/../lib.sh"
set -euo pipefail
pastur=$(readlink -f "${PASTUR:-$PWD/build/pastur}")
cd "$here"

device=${DEVICE:-cuda} out=${OUT:-scaling-out}
models=${MODELS-130m-mha;1b-mha --train.global_batch=32}
sharded=${SHARDED-7b-mha --train.global_batch=8 --train.recompute=block}
read -r -a counts <<<"${RANKS:-$(nvidia-smi -L 2>/dev/null | grep -c GPU || true)}"
timeout=5 # train.comm_timeout_s of the jobs that lose a rank
failed=0
bench_arguments=("$@")

[[ -x $pastur ]] || die "build Pastur or set PASTUR: no program at $pastur"
[[ ! -e $out ]] || die "$out exists: remove it or set OUT"
for ranks in "${counts[@]}"; do
    [[ $ranks =~ ^(2|4|8)$ ]] || die "RANKS: expected 2, 4 or 8 ranks, not $ranks"
done
((${#counts[@]} > 0)) || die "RANKS: expected numbers of ranks, such as \"2 4\""
mkdir -p "$out"
out=$(readlink -f "$out")
trap 'for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done' EXIT
PASTUR_SECRET=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export PASTUR_SECRET MASTER_ADDR=127.0.0.1
[[ $device == cuda ]] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# start RANKS LOG COMMAND...: starts a rank per number and leaves their process ids in pids. Rank r writes to LOG.r.
pids=()
start() {
    local ranks=$1 log=$2 rank
    shift 2
    pids=()
    export WORLD_SIZE=$ranks MASTER_PORT=$((20000 + RANDOM % 20000))
    for ((rank = 0; rank < ranks; ++rank)); do
        RANK=$rank LOCAL_RANK=$rank "$pastur" "$@" --device "$device" >"$log.$rank" 2>&1 &
        pids+=($!)
    done
}
# finish: waits for all ranks; their exit codes are in codes.
codes=()
finish() {
    local pid code
    codes=()
    for pid in "${pids[@]}"; do
        code=0
        wait "$pid" || code=$?
        codes+=("$code")
    done
    pids=()
}

report() { # report WHAT CONDITION...
    local what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        failed=1
    fi
}

# measure RANKS ZERO RECIPE [SETTING...]
# shellcheck disable=SC2317  # for_each calls it
measure() {
    local ranks=$1 zero=$2
    shift 2
    local log=$out/$1-$ranks-zero$zero
    start "$ranks" "$log" bench "$@" --strong --train.zero="$zero" --json "$log.json" "${bench_arguments[@]}"
    finish
    cat "$log.0"
    report "$1 on $ranks ranks, train.zero = $zero" test "${codes[*]}" = "$(printf '0 %.0s' $(seq "$ranks") | sed 's/ $//')"
    "$pastur" plan "$@" --gpus "$ranks" --device "$device" --train.zero="$zero" >"$log.plan" 2>&1 ||
        report "$1: pastur plan" false
    sed -n 's/^predicted step/plan, with the batch divided: &/p' "$log.plan"
}

nano=(train nano-mha --data.dir="$out/tokens" --diagnostics.every=0 --train.val_every=0 --run.log_every=1)

# lose SIGNAL RANKS: the last rank gets the signal after some steps.
lose() {
    local signal=$1 ranks=$2 run=$out/$1-$2 victim=$(($2 - 1)) begin pid code ended=0
    start "$ranks" "$run.log" "${nano[@]}" --run "$run" --train.steps=1000000 --train.comm_timeout_s="$timeout"
    until grep -qs '"event":"train","step":3,' "$run/metrics.jsonl" || ! kill -0 "${pids[0]}" 2>/dev/null; do
        sleep 0.1
    done
    kill -"$signal" "${pids[victim]}" && begin=$SECONDS
    for pid in "${pids[@]:0:victim}"; do
        code=0
        wait "$pid" || code=$?
        ((code != 71)) || ended=$((ended + 1))
    done
    report "$signal of rank $victim of $ranks ends all others with 71: $ended did" test "$ended" = "$victim"
    report "  within $timeout s and 5 more: $((SECONDS - begin)) s" test $((SECONDS - begin)) -le $((timeout + 5))
    report "  and rank 0 names it" grep -q "rank $victim (host .* is lost" "$run.log.0"
    kill -KILL "${pids[victim]}" 2>/dev/null || true
    wait "${pids[victim]}" 2>/dev/null || true
    pids=()
    rm -rf "$run"
}

losses() { sed -n 's/.*"event":"train","step":\([0-9]*\),"loss":\([0-9.e-]*\),.*/\1 \2/p' "$1/metrics.jsonl"; }

# resume RANKS: a checkpoint of step 10 continues on two ranks to step 20.
resume() {
    local ranks=$1 run=$out/resume-$1 settings=(--train.steps=20 --train.zero=1 --checkpoint.every=10 --checkpoint.keep=0)
    start "$ranks" "$run.log" "${nano[@]}" --run "$run" "${settings[@]}"
    finish
    cp -r "$run" "$run-on-2"
    rm -rf "$run-on-2/checkpoints/step_00000020"
    start 2 "$run-on-2.log" "${nano[@]}" --run "$run-on-2" "${settings[@]}" --resume
    finish
    losses "$run" >"$run.losses"
    losses "$run-on-2" >"$run-on-2.losses"
    # Sums in another order; in bf16 GEMMs also round other numbers.
    local largest=1
    largest=$(paste "$run.losses" "$run-on-2.losses" | awk 'BEGIN { m = 0 } NF != 4 || $1 != $3 { m = 1 }
        { d = $2 - $4; if (d < 0) d = -d; if (d > m) m = d } END { print (NR == 20 ? m : 1) }')
    report "a checkpoint of $ranks ranks continues on 2: losses differ by at most $largest" \
        awk -v m="$largest" -v most="$([[ $device == cpu ]] && echo 1e-4 || echo 1e-2)" 'BEGIN { exit !(m < most) }'
}

# for_each LIST FUNCTION ARGUMENTS...: calls it with the words of each entry of a list separated by ";".
for_each() {
    local list=$1 entry words
    shift
    local IFS_before=$IFS
    IFS=';'
    for entry in $list; do
        IFS=$IFS_before
        read -r -a words <<<"$entry"
        "$@" "${words[@]}"
    done
    IFS=$IFS_before
}

for ranks in "${counts[@]}"; do
    say "$ranks ranks"
    for zero in 0 1; do for_each "$models" measure "$ranks" "$zero"; done
    for_each "$sharded" measure "$ranks" 1
done

say "lost ranks and checkpoints"
{
    "$pastur" data synth --docs 3000 --seed 1 --out "$out/stories.txt" &&
        "$pastur" data prepare --input "$out/stories.txt" --tokenizer train:2048 --out "$out/tokens"
} >"$out/prepare.log" 2>&1 || die "$(cat "$out/prepare.log")"
for ranks in "${counts[@]}"; do
    lose KILL "$ranks"
    lose STOP "$ranks"
    resume "$ranks"
done
exit "$failed"
