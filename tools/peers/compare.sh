#!/usr/bin/env bash
# Pastur and PyTorch on the same models, one after the other in the same session, and the ratio of their
# tokens/s. Takes the arguments of `pastur bench`:
#
#   tools/peers/compare.sh tools/recipes/130m-mha.toml --variants mha,mla-prerope,mla-decoupled
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

rm -f "$out"/peer.jsonl "$out"/pastur.*.json
for ((round = 1; round <= ${ROUNDS:-1}; ++round)); do
    say "round $round: pastur"
    "$pastur" bench "$@" --json "$out/pastur.$round.json"
    say "round $round: PyTorch"
    "$python" "$peers/torch_peer.py" "$out/pastur.$round.json" | tee -a "$out/peer.jsonl" || say "PyTorch failed in part, as its lines say"
done

say "ratio"
"$python" - "$out"/peer.jsonl "$out"/pastur.*.json <<'END'
import json, sys
peers = [json.loads(line) for line in open(sys.argv[1])]
best = {}
for file in sys.argv[2:]:
    for variant in json.load(open(file))["variants"]:
        if variant["tokens_per_s"] > best.get(variant["variant"], {"tokens_per_s": 0})["tokens_per_s"]:
            best[variant["variant"]] = variant
print(f"{'variant':<15}{'pastur tok/s':>14}{'TFLOP/s':>9}{'PyTorch tok/s':>15}{'TFLOP/s':>9}{'ratio':>7}  PyTorch's best")
for name, ours in best.items():
    rivals = [p for p in peers if p["variant"] == name and "error" not in p]
    if not rivals:
        print(f"{name:<15}{ours['tokens_per_s']:>14.0f}{ours['tflops']:>9.3g}  PyTorch failed")
        continue
    rival = max(rivals, key=lambda p: p["tokens_per_s"])
    print(f"{name:<15}{ours['tokens_per_s']:>14.0f}{ours['tflops']:>9.3g}{rival['tokens_per_s']:>15.0f}"
          f"{rival['tflops']:>9.3g}{ours['tokens_per_s'] / rival['tokens_per_s']:>7.2f}"
          f"  {rival['peer']}, {rival['mode']}, sdpa {rival['sdpa']}")
END
