#!/usr/bin/env bash
# Goes from a fresh clone to a study of three attention variants, in minutes on a laptop.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/quickstart.sh [--input FILES...] [--steps N] [--out DIR] [--cuda]

Builds Pastur and runs the study tools/study/nano.toml: it makes a small corpus, trains a transformer of 1.3 M
parameters with each of three attention variants (mha, mla-prerope, mla-decoupled) and two seeds, and writes a page
with what they say. Run it again to continue where it stopped.

  --input FILES...  your own text or JSON lines (also gzip or Zstandard) instead of synthetic stories
  --steps N         training steps of each run (default: as in the study)
  --out DIR         output folder (default: quickstart-out)
  --cuda            compile the CUDA code even if this machine has no GPU

PASTUR names a program to use instead of building one.
TEXT
}

# absolute PATH: resolves a path against the folder in which the user started the script. The script itself runs
# in the repository's root.
start=$PWD
absolute() { if [[ $1 == /* ]]; then echo "$1"; else echo "$start/$1"; fi; }

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

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

pastur=${PASTUR:-build/pastur}
if [[ -z ${PASTUR:-} ]]; then
    say "1/3  Dependencies and build (minutes the first time, seconds afterwards)"
    tools/install_deps.sh
    user_build "${cuda[@]}"
fi

study=(study tools/study/nano.toml --out "$out")
for input in "${inputs[@]}"; do study+=(--input "$input"); done
[[ -z $steps ]] || study+=("--train.steps=$steps" "--train.warmup_steps=$((steps / 20))")
bytes=(--tokenizer bytes)

say "2/3  Data, in $out/data (under a minute)"
tokenizer=()
if [[ -f $out/data/prepared.json ]] && grep -q '"tokenizer": "bytes"' "$out/data/prepared.json"; then
    tokenizer=("${bytes[@]}")
fi
status=0
run "$pastur" "${study[@]}" "${tokenizer[@]}" --stage data || status=$?
if ((status == 2)) && [[ ! -e $out/data ]]; then
    echo "This text is too uniform for 2048 pieces: its bytes become the tokens."
    tokenizer=("${bytes[@]}")
    status=0
    run "$pastur" "${study[@]}" "${tokenizer[@]}" --stage data || status=$?
fi
((status != 75)) || die "stopped: run the same command again to continue"
((status == 0)) || exit "$status"

say "3/3  Training of three variants with two seeds, one run after the other (half a minute to a minute each on two cores)"
run "$pastur" "${study[@]}" "${tokenizer[@]}" || status=$?
((status != 75)) || die "stopped with a checkpoint: run the same command again to continue"
((status == 0)) || exit "$status"

cat <<TEXT

Where to look next
  $out/report.html                 what the runs say together: losses, spectra, speed, recipes
  $out/study.json                  the same in numbers, means over seeds with intervals
  $out/runs/mha-s1/metrics.jsonl   loss, speed and memory of every logged step
  $out/runs/mha-s1/config.toml     every setting of the run; change any with --section.key=value
  tools/study/                     this study and those at 30m and 130m
  $pastur study --help             how to stop, continue and spread a study over GPUs and jobs
  $pastur train --help             all settings
TEXT
