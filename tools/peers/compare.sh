#!/usr/bin/env bash
# Measures Pastur and then PyTorch on the same models and prints the ratio of their tokens/s; with --ops it
# compares attention alone. Takes the arguments of `pastur bench`:
#
#   tools/peers/compare.sh tools/recipes/130m-mha.toml --variants mha,mla-prerope,mla-decoupled
#   tools/peers/compare.sh tools/recipes/130m-mha.toml --ops=attention
#   tools/peers/compare.sh --device cpu
#
# Environment variables:
#   PASTUR  the program (default: build/pastur)
#   PYTHON  a Python with PyTorch (default: python3)
#   ROUNDS  how often both are measured, in turn (default: 1); the best round of each counts. Use more on a
#           shared machine.
#   OUT     a folder in which to keep both programs' JSON (default: none)
# shellcheck source=tools/lib.sh
here=$PWD
. "$(dirname "$0")/../lib.sh"
set -euo pipefail
peers=$PWD/tools/peers
pastur=${PASTUR:-$PWD/build/pastur}
python=${PYTHON:-python3}
cd "$here"

[[ -x $pastur ]] || die "build Pastur or set PASTUR: no program at $pastur"
"$python" -c 'import torch' 2>/dev/null || die "install PyTorch or set PYTHON: $python cannot import torch"
out=${OUT:-}
if [[ -z $out ]]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
# Gives both programs the same number of threads. By default PyTorch starts one per physical core and Pastur one
# per available logical core.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

peer=torch_peer.py
for argument in "$@"; do
    [[ $argument != --ops* ]] || peer=torch_attention.py
done

rm -f "$out"/peer.jsonl "$out"/pastur.*.json
for ((round = 1; round <= ${ROUNDS:-1}; ++round)); do
    say "round $round: pastur"
    "$pastur" bench "$@" --json "$out/pastur.$round.json"
    say "round $round: PyTorch"
    "$python" "$peers/$peer" "$out/pastur.$round.json" | tee -a "$out/peer.jsonl" ||
        say "some PyTorch measurements failed: see their error fields above"
done

say "ratio"
"$python" "$peers/ratio.py" "$out"/peer.jsonl "$out"/pastur.*.json
