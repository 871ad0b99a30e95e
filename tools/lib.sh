# Shared by the scripts of this folder; sourced, never run. It moves to the repository's root.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

have() { command -v "$1" >/dev/null 2>&1; }

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints a command, then runs it.
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

# Build jobs: one a core, each with 2 GiB of memory. JOBS overrides.
jobs_of_this_machine() {
    local by_memory
    by_memory=$(awk '/MemAvailable/ { print int($2 / 2097152) }' /proc/meminfo)
    local jobs
    jobs=$(nproc)
    ((by_memory >= jobs)) || jobs=$by_memory
    ((jobs >= 1)) || jobs=1
    echo "${JOBS:-$jobs}"
}

nvcc_path() { command -v nvcc || { [[ -x /usr/local/cuda/bin/nvcc ]] && echo /usr/local/cuda/bin/nvcc; }; }

have_gpu() { have nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# configure FOLDER [-DKEY=VALUE...]: Ninja, and ccache where it is installed, but not for device code: it looks at what
# the preprocessor makes for the host, where all that stands under __CUDA_ARCH__ is missing, and hands out stale objects.
configure() {
    local folder=$1
    shift
    local launcher=()
    if have ccache; then
        launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=)
    fi
    run cmake -S . -B "$folder" -G Ninja --log-level=STATUS "${launcher[@]}" "$@"
}

# build FOLDER [TARGET...]: silent but for warnings and errors.
build() {
    local folder=$1
    shift
    local targets=()
    (($# == 0)) || targets=(--target "$@")
    run cmake --build "$folder" -j "$(jobs_of_this_machine)" "${targets[@]}" -- --quiet
}

# The builds of the developers' scripts, apart from the user's own in build/. Tests take further arguments.
cpu_build() {
    configure build-cpu -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=OFF
    build build-cpu
}
# Side by side; two threads each still enter every parallel region.
cpu_tests() {
    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive run ctest --test-dir build-cpu -j "$(nproc)" --output-on-failure "$@"
}
cuda_build() {
    configure build-cuda -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=ON \
        -DCMAKE_CUDA_COMPILER="$(nvcc_path)"
    build build-cuda
}
# In one process: making a CUDA context costs more than most tests.
cuda_tests() { run build-cuda/pastur_tests --gtest_brief=1 "$@"; }
# GCC's own warnings misfire in instrumented code.
asan_build() {
    configure build-asan -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG='-O1 -g1' -DPASTUR_WERROR=OFF \
        -DPASTUR_CUDA=OFF -DPASTUR_MPI=OFF -DPASTUR_SANITIZE=address,undefined
    build build-asan pastur_tests pastur
}
# The system's libraries are not instrumented, so that containers they touched look overrun.
under_sanitizers() {
    ASAN_OPTIONS=detect_container_overflow=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 run "$@"
}
asan_tests() { under_sanitizers build-asan/pastur_tests --gtest_brief=1 "$@"; }

# What reads bytes from outside, and its tests alone, under sanitizers. Of the rest there are the objects that the CPU
# build has made, if there is a compiler cache.
parser_build() {
    configure build-parsers -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=OFF \
        -DPASTUR_SANITIZE=address,undefined -DPASTUR_SANITIZE_MATHS=OFF
    build build-parsers pastur_parser_tests
}
# Suites of everything that reads bytes from outside: recipes, shards, corpora, tokenizers, checkpoints, ...
parser_suites='*Config*:*Shard*:*Corpus*:*ByteSource*:*Utf8*:*Tokenizer*:*SentencePiece*:*Prepare*:*Meta*'
parser_suites+=':*Loader*:*Safetensors*:*Manifest*:*Checkpoint*:*Npz*:*Json*:*Overrides*'
# Over a minute, for hashes of bytes; and the fuzzers, which have a stage of their own.
parser_suites+='-CheckpointDamage.EveryFlippedBit*:Fuzz.*'
parser_tests() { under_sanitizers build-parsers/pastur_parser_tests --gtest_brief=1 --gtest_filter="$parser_suites" "$@"; }

# fuzz_targets SECONDS [GTEST ARGS...]: each that long, two at a time. Reports, if asked for by --gtest_output=xml:FILE,
# are FILE of the first half and FILE.2 of the second.
fuzz_targets() {
    local seconds=$1 shard status=0 jobs=() arguments
    shift
    for shard in 0 1; do
        arguments=("$@")
        ((shard == 0)) || arguments=("${arguments[@]/%.xml/.2.xml}")
        PASTUR_FUZZ_SECONDS=$seconds GTEST_TOTAL_SHARDS=2 GTEST_SHARD_INDEX=$shard under_sanitizers \
            build-parsers/pastur_parser_tests --gtest_brief=1 --gtest_filter='Fuzz.*' "${arguments[@]}" &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || status=$?; done
    return "$status"
}

# The sources that git knows, by pattern; in an exported tree all that are there.
sources() {
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard -- "$@" | while read -r file; do
            [[ ! -f $file ]] || printf '%s\n' "$file"
        done
    else
        local pattern names=()
        for pattern in "$@"; do names+=(-o -name "$pattern"); done
        find . \( -name 'build*' -o -name dist \) -prune -o -type f \( "${names[@]:1}" \) -print
    fi
}

# The formatter whose output is the house's: other major versions lay code out otherwise.
clang_format() {
    local candidate
    for candidate in clang-format-14 clang-format; do
        if have "$candidate" && "$candidate" --version | grep -q 'version 14\.'; then
            echo "$candidate"
            return
        fi
    done
    return 1
}
