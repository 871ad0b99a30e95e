#!/usr/bin/env bash
# Trains mha, converts it to mla-decoupled and trains on: tools/study/convert.toml, or convert-130m.toml.
#   tools/study/convert.sh nano OUT [OVERRIDES...]                           # on synthetic stories that it makes
#   tools/study/convert.sh 130m OUT --data.dir=/absolute/data-tokens [OVERRIDES...]
# OUT gets data/ (nano), mha/, converted/, normed/ with the reports converted.json and normed.json, and study/. What is there
# already is not made again. Overrides go to training. PASTUR names the program, by default build/pastur.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
die() {
    echo "${0##*/}: $*" >&2
    exit 2
}
(($# >= 2)) || die "expected a size, nano or 130m, and a folder"
size=$1 out=$2
shift 2
case $size in
nano) design=convert steps=280 settings=(--train.global_batch=8) kv_rank=64 rope_dim=16 ;;
130m) design=convert-130m steps=750 settings=(--train.warmup_steps=100 --train.grad_clip=1.0) kv_rank=384 rope_dim=32 ;;
*) die "$size: expected nano or 130m" ;;
esac
pastur=$(realpath "${PASTUR:-$root/build/pastur}")
mkdir -p "$out"
cd "$out"

data=''
for argument in "$@"; do [[ $argument != --data.dir=* ]] || data=${argument#*=}; done
if [[ -z $data ]]; then
    [[ $size == nano ]] || die "expected --data.dir=FOLDER of data prepare, as an absolute path"
    data=$PWD/data
    set -- "$@" --data.dir="$data"
    if [[ ! -d data ]]; then
        "$pastur" data synth --docs 8000 --seed 1 --out stories.txt
        "$pastur" data prepare --input stories.txt --tokenizer train:2048 --out data
    fi
fi

[[ -e mha/checkpoints/latest ]] ||
    "$pastur" train "$root/tools/recipes/$size-mha.toml" --run mha --train.steps=$steps "${settings[@]}" "$@"
for norm in '' --latent-norm; do
    name=converted
    [[ -z $norm ]] || name=normed
    [[ -d $name ]] ||
        "$pastur" convert mha --kv-rank $kv_rank --rope-dim $rope_dim --calibrate "$data" --out $name --json $name.json $norm
done
"$pastur" study "$root/tools/study/$design.toml" --out study "$@"
