#!/usr/bin/env bash
# Runs the steps of the Dockerfile without Docker: each stage in a root that debootstrap makes, the program as the user
# that the image runs it as. Needs root, debootstrap and about 3 GB in /tmp.
#   tools/container/check.sh [SUITE [MIRROR]]      default: bookworm, http://deb.debian.org/debian
# CHECK_CCACHE: a folder of ccache that the build shares, to save time. JOBS: jobs of the build.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/../lib.sh"

suite=${1:-bookworm}
mirror=${2:-http://deb.debian.org/debian}
((EUID == 0)) || die "needs root, for chroot"
have debootstrap || die "needs debootstrap"
top=$(mktemp -d /tmp/pastur-image.XXXXXX)

mounted() { awk -v top="$top/" 'index($2, top) == 1 { print $2 }' /proc/mounts | sort -r; }
clean() {
    mounted | xargs -r -n 1 umount
    # Never descends into what is still mounted.
    rm -rf --one-file-system "$top"
}
trap clean EXIT

# new_root NAME: a root as FROM makes it.
new_root() {
    run debootstrap --no-check-gpg --variant=minbase --components=main,universe "$suite" "$top/$1" "$mirror" >/dev/null
    cp -L /etc/resolv.conf "$top/$1/etc/resolv.conf"
    mount -t proc proc "$top/$1/proc"
    if [[ -n ${CHECK_CCACHE:-} ]]; then
        mkdir -p "$top/$1/ccache"
        mount --bind "$CHECK_CCACHE" "$top/$1/ccache"
    fi
}

# inside ROOT COMMAND...: runs a command as a step of the image.
inside() {
    local root=$1
    shift
    chroot "${as[@]}" "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
        CCACHE_DIR=/ccache JOBS="${JOBS:-}" sh -c "cd '$workdir' && $*"
}

# copy ARGUMENTS: a line COPY [--from=STAGE] SOURCE... TARGET.
copy() {
    local from=. words
    read -ra words <<<"$*"
    if [[ ${words[0]} == --from=* ]]; then
        from=$top/${words[0]#--from=}
        words=("${words[@]:1}")
    fi
    local target=$root/${words[-1]} source
    [[ $target != */ ]] || mkdir -p "$target"
    for source in "${words[@]::${#words[@]}-1}"; do
        if [[ $from == . && $source == . ]]; then
            mkdir -p "$target"
            # What git lists is what .dockerignore leaves.
            sources . | tar -cf - -T - .git 2>/dev/null | tar --no-same-owner -xf - -C "$target"
        else
            cp -r "$from/$source" "$target"
        fi
    done
}

declare -A values=()
root='' stage=0 workdir=/ as=() entry='' command=''
while IFS= read -r line || [[ -n $line ]]; do
    while [[ $line == *\\ ]]; do
        IFS= read -r more
        line=${line%\\}$more
    done
    [[ $line =~ ^([A-Z]+)\ +(.*)$ ]] || continue
    word=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
    for name in "${!values[@]}"; do rest=${rest//"\${$name}"/${values[$name]}}; done
    say "$word $rest"
    case $word in
        ARG) values[${rest%%=*}]=${rest#*=} ;;
        FROM)
            stage=$((stage + 1)) workdir=/ as=()
            [[ $rest =~ \ AS\ ([a-z]+)$ ]] && name=${BASH_REMATCH[1]} || name=stage$stage
            root=$top/$name
            new_root "$name"
            ;;
        WORKDIR)
            workdir=$rest
            mkdir -p "$root$workdir"
            ;;
        COPY) copy "$rest" ;;
        RUN) inside "$root" "$rest" ;;
        USER) as=("--userspec=$rest:$rest") ;;
        ENTRYPOINT) entry=$(tr -d '[],"' <<<"$rest") ;;
        CMD) command=$(tr -d '[],"' <<<"$rest") ;;
        *) die "the Dockerfile has a step that this script does not know: $word" ;;
    esac
done <tools/container/Dockerfile

say "The image, as its user"
[[ $(inside "$root" id -un) == pastur ]] || die "the program would run as $(inside "$root" id -un)"
! inside "$root" command -v g++ || die "the image holds a compiler"
inside "$root" "$entry $command" | head -3
inside "$root" "$entry --version"
inside "$root" "$entry data synth --docs 300 --seed 1 --out s.txt"
inside "$root" "$entry data prepare --input s.txt --tokenizer bytes --out tokens"
small="--data.dir=tokens --data.seq_len=64 --train.steps=3 --train.warmup_steps=0 --train.global_batch=4 --train.val_tokens=1024"
inside "$root" "$entry train nano-mtla $small && $entry verify runs/nano-mtla"
inside "$root" "OMP_NUM_THREADS=1 mpirun -np 2 $entry train nano-mha $small --run runs/two"
say "The steps of the Dockerfile work on $suite."
