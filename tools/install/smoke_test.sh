#!/usr/bin/env bash
# Checks this copy of Pastur on this machine, in well under a minute: every file against SHA256SUMS, then data, training,
# a stop and its continuation, verification, evaluation, spectra and the page of a tiny model.
#   smoke_test.sh [--device cpu|cuda]
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
pastur=$here/bin/pastur
device=(--device "${2:-auto}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# step WHAT COMMAND...: runs the command and shows its output only if it fails.
step() {
    local what=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok      $what"
    else
        echo "FAILED  $what: $*"
        cat "$work/log"
        exit 1
    fi
}

cd "$here"
step "files" sha256sum --quiet -c SHA256SUMS
"$pastur" --version | head -1
cd "$work"
step "data" "$pastur" data synth --docs 300 --seed 1 --out stories.txt
step "tokens" "$pastur" data prepare --input stories.txt --tokenizer bytes --out tokens --val-fraction 0.1
settings=(--data.dir=tokens --data.seq_len=64 --train.steps=4 --train.warmup_steps=0 --train.global_batch=4
    --train.val_tokens=1024 --diagnostics.every=4)
step "training" "$pastur" train nano-mla-decoupled --run run "${settings[@]}" "${device[@]}"
step "continued" "$pastur" train run --resume --train.steps=6 "${device[@]}"
step "checkpoint" "$pastur" verify run
step "evaluation" "$pastur" eval --checkpoint run --data tokens --tokens 1024 "${device[@]}"
step "spectra" "$pastur" spectra run --text "${device[@]}"
step "page" "$pastur" report run -o page.html
step "manual" "$pastur" help train --man
echo "This copy works here."
