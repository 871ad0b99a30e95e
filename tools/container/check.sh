#!/usr/bin/env bash
# Runs the steps of the Dockerfile and of the Apptainer definition without their builders: each stage in a root that
# debootstrap makes, the program as an ordinary user. Needs root, debootstrap and about 3 GB in /tmp.
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

root='' workdir=/ as=()

# try_program USER ENTRY...: the image's program, as the user that the image or its starter names.
try_program() {
    local user=$1 entry=${*:2} small
    as=("--userspec=$user:$user")
    [[ $(inside "$root" id -u) != 0 ]] || die "the program would run as root"
    ! inside "$root" command -v g++ || die "the image holds a compiler"
    inside "$root" "$entry help" | head -3
    inside "$root" "$entry --version"
    inside "$root" "$entry data synth --docs 300 --seed 1 --out s.txt"
    inside "$root" "$entry data prepare --input s.txt --tokenizer bytes --out tokens"
    small="--data.dir=tokens --data.seq_len=64 --train.steps=3 --train.warmup_steps=0 --train.global_batch=4"
    inside "$root" "$entry train nano-mtla $small --train.val_tokens=1024 && $entry verify runs/nano-mtla"
    inside "$root" "OMP_NUM_THREADS=1 mpirun -np 2 $entry train nano-mha $small --train.val_tokens=1024 --run runs/two"
    as=()
}

check_dockerfile() {
    local -A values=()
    local line more word rest name stage=0 entry='' command='' user=root
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
                stage=$((stage + 1)) workdir=/
                [[ $rest =~ \ AS\ ([a-z]+)$ ]] && name=${BASH_REMATCH[1]} || name=stage$stage
                root=$top/$name
                new_root "$name"
                ;;
            WORKDIR)
                workdir=$rest
                mkdir -p "$root$workdir"
                ;;
            COPY) copy "$rest" ;;
            RUN) inside "$root" "$rest" </dev/null ;;
            USER) user=$rest ;;
            ENTRYPOINT) entry=$(tr -d '[],"' <<<"$rest") ;;
            CMD) command=$(tr -d '[],"' <<<"$rest") ;;
            *) die "the Dockerfile has a step that this script does not know: $word" ;;
        esac
    done <tools/container/Dockerfile
    say "The image of the Dockerfile, as $user: $entry $command"
    try_program "$user" "$entry"
}

# check_definition: %files and %post of each stage. Apptainer runs the program as the user that starts it.
check_definition() {
    local line section='' stage='' script='' from='' words
    run_post() {
        [[ -z $script ]] || { say "%post of $stage" && inside "$root" "set -e; $script" </dev/null; }
        script=''
    }
    workdir=/
    while IFS= read -r line; do
        case $line in
            Bootstrap:*) run_post ;;
            Stage:*)
                stage=sif-${line#Stage: } root=$top/sif-${line#Stage: }
                new_root "$stage"
                ;;
            %*)
                section=${line%% *} from=''
                [[ $line != *" from "* ]] || from=--from=sif-${line##* from }
                ;;
            "    "*)
                read -ra words <<<"$line"
                case $section in
                    %files) copy "${from:+$from }${words[*]}" ;;
                    %post) script+="$line"$'\n' ;;
                    %runscript) [[ $line == '    exec pastur "$@"' ]] || die "expected the program in %runscript" ;;
                esac
                ;;
        esac
    done <tools/container/pastur.def
    run_post
    say "The image of the Apptainer definition, as a user"
    chroot "$root" useradd --create-home someone
    workdir=/home/someone
    try_program someone pastur
}

check_dockerfile
check_definition
say "The steps of both work on $suite."
