#!/usr/bin/env bash
# Pastur and PyTorch on the same models, one after the other in the same session, and the ratio of their
# tokens/s; with --ops, attention alone. Takes the arguments of `pastur bench`:
#
#   tools/peers/compare.sh tools/recipes/130m-mha.toml --variants mha,mla-prerope,mla-decoupled
#   tools/peers/compare.sh tools/recipes/130m-mha.toml --ops=attention
#   tools/peers/compare.sh --device cpu
#
# PASTUR: the binary (default build/pastur); PYTHON: one that has PyTorch (default python3); ROUNDS: how often
# both run, in turn, each one's best round counting (default 1; more on a machine that others use); OUT: a
# folder that keeps the JSON of both.
# shellcheck source=tools/lib.sh
here=$PWD
. "$(dirname "$0")/../lib.sh"
set -euo pipefail
peers=$PWD/tools/peers
pastur=${PASTUR:-$PWD/build/pastur}
python=${PYTHON:-python3}
cd "$here"

[[ -x $pastur ]] || die "no $pastur: build it, or set PASTUR"
"$python" -c 'import torch' 2>/dev/null || die "$python has no PyTorch: install it, or set PYTHON"
out=${OUT:-}
if [[ -z $out ]]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out"
# PyTorch takes the physical cores unless told, Pastur all that it may use.
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
    "$python" "$peers/$peer" "$out/pastur.$round.json" | tee -a "$out/peer.jsonl" || say "PyTorch failed in part, as its lines say"
done

say "ratio"
"$python" "$peers/ratio.py" "$out"/peer.jsonl "$out"/pastur.*.json
