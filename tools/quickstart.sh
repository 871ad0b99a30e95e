#!/usr/bin/env bash
# From a fresh clone to a comparison of three attention variants, in minutes on a laptop.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/quickstart.sh [--input FILES...] [--steps N] [--out DIR]

Builds Pastur, makes a small corpus, trains the same 1.3 M parameter transformer with three kinds of attention
(mha, mla-prerope, mla-decoupled) and compares them. Run it again to go on where it stopped.

  --input FILES...  your own text (.txt, .jsonl, also .gz or .zst) instead of synthetic stories
  --steps N         training steps of each variant (default: what the recipes say)
  --out DIR         where everything goes (default: quickstart-out)
TEXT
}

# A path as seen from where the user stands; the script itself works in the repository's root.
start=$PWD
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$start/$1"; fi; }

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

variants=(mha mla-prerope mla-decoupled)
inputs=() steps="" out=quickstart-out
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
        -h | --help)
            usage
            exit 0
            ;;
        *) die "unknown option $option (see tools/quickstart.sh --help)" ;;
    esac
done

say "1/4  Dependencies and build (minutes the first time, seconds afterwards)"
tools/install_deps.sh
configure build -DCMAKE_BUILD_TYPE=Release
build build pastur
pastur=build/pastur

say "2/4  Data, in $out/data (under a minute)"
mkdir -p "$out"
described="${inputs[*]:-synthetic stories}"
if [[ -f $out/data/meta.json ]]; then
    [[ $(cat "$out/input.txt") == "$described" ]] ||
        die "$out holds data made from other input ($(cat "$out/input.txt")): give another --out"
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
    ((status != 75)) || die "stopped, with a checkpoint: run the same line again to go on"
    ((status == 0)) || exit "$status"
done

say "4/4  Comparison"
run "$pastur" compare "${runs[@]}"
run "$pastur" report "${runs[@]}" -o "$out/report.html"

cat <<TEXT

Where to look next
  $out/report.html                 the comparison as a page: losses, spectra, speed, recipes
  $out/mla-prerope/metrics.jsonl   loss, speed and memory of every logged step
  $out/mla-prerope/config.toml     every setting of the run; change one with --section.key=value
  tools/recipes/                   the same comparison at 30m, 130m, 1b and 7b
  $pastur train --help             all settings
  $pastur eval --help              perplexity of a checkpoint on other data
TEXT
