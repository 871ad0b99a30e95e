#!/usr/bin/env bash
# Goes from a fresh clone to a comparison of three attention variants, in minutes on a laptop.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/quickstart.sh [--input FILES...] [--steps N] [--out DIR] [--cuda]

Builds Pastur, makes a small corpus, trains a transformer of 1.3 M parameters with each of three attention
variants (mha, mla-prerope, mla-decoupled) and compares them. Run it again to continue where it stopped.

  --input FILES...  your own text or JSON lines (also gzip or Zstandard) instead of synthetic stories
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

# check_input PATH: refuses before the build what `pastur data prepare` would refuse after it.
check_input() {
    local path=$1 is=""
    [[ -e $path ]] || compgen -G "$path" >/dev/null || die "--input $path: no such file, folder or pattern"
    [[ -e $path && ! -d $path ]] || return 0
    [[ -f $path ]] || die "--input $path: expected a regular file: the tokenizer's training reads it twice"
    [[ -r $path ]] || die "--input $path: permission denied"
    [[ -s $path ]] || die "--input $path: the file is empty"
    case $(head -c 6 "$path" | od -An -tx1 | tr -d ' \n') in
        50415231*) is="a Parquet file: write its text column as JSON lines" ;;
        504b0304*) is="a zip archive: unpack it and give the folder" ;;
        255044462d*) is="a PDF: extract its text (pdftotext)" ;;
        fffe* | feff*) is="UTF-16: convert it (iconv -f UTF-16 -t UTF-8)" ;;
        fd377a585a00 | 425a68*) is="compressed with xz or bzip2: expected plain text, gzip or Zstandard" ;;
    esac
    [[ -z $is ]] || die "--input $path: $is"
}

for input in "${inputs[@]}"; do check_input "$input"; done
((${#inputs[@]} != 1)) || [[ ! -f ${inputs[0]} || ${inputs[0]} == *.gz || ${inputs[0]} == *.zst ]] ||
    (($(stat -c %s "${inputs[0]}") >= 20000)) ||
    die "--input ${inputs[0]}: expected at least 20 kB of text: the tokenizer has 2048 pieces"

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
    status=0
    run "$pastur" data prepare --input "${inputs[@]}" --tokenizer train:2048 --out "$out/data" || status=$?
    if ((status == 2)); then
        echo "This text is too uniform for 2048 pieces: its bytes become the tokens."
        run "$pastur" data prepare --input "${inputs[@]}" --tokenizer bytes --out "$out/data"
    elif ((status != 0)); then
        exit "$status"
    fi
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
