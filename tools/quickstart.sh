#!/usr/bin/env bash
# Goes from a fresh clone to a comparison of three attention variants, in minutes on a laptop.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/quickstart.sh [--input FILES...] [--steps N] [--out DIR] [--cuda]

Builds Pastur, makes a small corpus, trains a transformer of 1.3 M parameters with each of three attention
variants (mha, mla-prerope, mla-decoupled) and compares them. Run it again to continue where it stopped.

  --input FILES...  your own text (.txt, .jsonl, also .gz or .zst) instead of synthetic stories
  --steps N         training steps of each variant (default: as in the recipes)
  --out DIR         output folder (default: quickstart-out)
  --cuda            compile the CUDA code even if this machine has no GPU
TEXT
}

# absolute PATH: resolves a path against the folder in which the user started the script. The script itself runs
# in the repository's root.
start=$PWD
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$start/$1"; fi; }

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

variants=(mha mla-prerope mla-decoupled)
inputs=() steps="" out=quickstart-out cuda=()
while (($# > 0)); do
    option=$1
    shift
    case $option in
        --input)
            while (($# > 0)) && [[ $1 != --* ]]; do
                inputs+=("$(absolute "$1")")
                shift
            done
            ((${#inputs[@]} > 0)) || die "--input needs at least one file"
            ;;
        --steps)
            [[ ${1:-} =~ ^[1-9][0-9]*$ ]] || die "--steps needs a number of steps"
            steps=$1
            shift
            ;;
        --out)
            [[ -n ${1:-} ]] || die "--out needs a folder"
            out=$(absolute "$1")
            shift
            ;;
        --cuda) cuda=(--cuda) ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die "unknown option $option (see tools/quickstart.sh --help)" ;;
    esac
done

say "1/4  Dependencies and build (minutes the first time, seconds afterwards)"
tools/install_deps.sh
user_build "${cuda[@]}"
pastur=build/pastur

say "2/4  Data, in $out/data (under a minute)"
mkdir -p "$out"
described="${inputs[*]:-synthetic stories}"
if [[ -f $out/data/meta.json ]]; then
    [[ $(cat "$out/input.txt") == "$described" ]] ||
        die "give another --out: $out holds data made from other input ($(cat "$out/input.txt"))"
    echo "Already there, made from: $described"
else
    if ((${#inputs[@]} == 0)); then
        run "$pastur" data synth --docs 8000 --seed 1 --out "$out/stories.txt"
        inputs=("$out/stories.txt")
    fi
    run "$pastur" data prepare --input "${inputs[@]}" --tokenizer train:2048 --out "$out/data"
    echo "$described" >"$out/input.txt"
fi

say "3/4  Training ${#variants[@]} variants, one after the other (about a minute each on two cores)"
overrides=("--data.dir=$out/data")
[[ -z $steps ]] || overrides+=("--train.steps=$steps" "--train.warmup_steps=$((steps / 20))")
runs=()
for variant in "${variants[@]}"; do
    runs+=("$out/$variant")
    status=0
    run "$pastur" train "tools/recipes/nano-$variant.toml" "${overrides[@]}" --run "$out/$variant" --resume || status=$?
    ((status != 75)) || die "stopped with a checkpoint: run the same command again to continue"
    ((status == 0)) || exit "$status"
done

say "4/4  Comparison"
run "$pastur" compare "${runs[@]}"
run "$pastur" report "${runs[@]}" -o "$out/report.html"

cat <<TEXT

Where to look next
  $out/report.html                 the comparison as a page: losses, spectra, speed, recipes
  $out/mla-prerope/metrics.jsonl   loss, speed and memory of every logged step
  $out/mla-prerope/config.toml     every setting of the run; change any with --section.key=value
  tools/recipes/                   recipes of the same comparison at 30m, 130m, 1b and 7b parameters
  $pastur train --help             all settings
  $pastur eval --help              perplexity of a checkpoint on other data
TEXT
