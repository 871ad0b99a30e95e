# Functions that the scripts of this folder share. Source this file, do not run it: it changes to the
# repository's root.
# shellcheck shell=bash
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

have() { command -v "$1" >/dev/null 2>&1; }

# A heading: bold on a terminal, unless NO_COLOR is set.
say() {
    local bold='' plain=''
    if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\033[1m' plain=$'\033[0m'; fi
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# run COMMAND...: prints a command, then runs it.
run() {
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

# Number of build jobs: one per core, but at most one per 2 GiB of available memory. JOBS overrides it.
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

# Builds in different folders share ccache's objects: their include folders differ in the build folder's name only.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

# configure FOLDER [-DKEY=VALUE...]: configures with Ninja, and with ccache for host code if it is installed.
# Device code is not cached: ccache hashes the preprocessor's output for the host, which lacks everything
# under __CUDA_ARCH__, and would return stale objects.
configure() {
    local folder=$1
    shift
    local launcher=()
    if have ccache; then
        launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=)
    fi
    run cmake -S . -B "$folder" -G Ninja --log-level=STATUS "${launcher[@]}" "$@"
}

# build FOLDER [TARGET...]: builds, and prints only warnings and errors.
build() {
    local folder=$1
    shift
    local targets=()
    (($# == 0)) || targets=(--target "$@")
    run cmake --build "$folder" -j "$(jobs_of_this_machine)" "${targets[@]}" -- --quiet
}

# user_build [--cuda]: builds the program in build/ and shows progress. It compiles CUDA code if the machine has a
# GPU and nvcc, or with --cuda.
user_build() {
    local cuda=OFF
    if [[ ${1:-} == --cuda ]]; then
        nvcc_path >/dev/null || die "install the CUDA toolkit: --cuda needs nvcc on PATH or in /usr/local/cuda/bin"
        cuda=ON
    elif have_gpu; then
        if nvcc_path >/dev/null; then
            cuda=ON
        else
            echo "Building for the CPU: there is a GPU but no nvcc. Install the CUDA toolkit to train on the GPU."
        fi
    fi
    configure build -DCMAKE_BUILD_TYPE=Release -DPASTUR_CUDA=$cuda
    run env NINJA_STATUS='[%f/%t, %e s] ' cmake --build build -j "$(jobs_of_this_machine)" --target pastur
}

# The scripts for developers build in folders of their own, not in the user's build/. The functions that run
# tests pass their arguments on.
cpu_build() {
    configure build-cpu -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=OFF
    build build-cpu
}
# Runs one test per core at a time, with two threads each, so parallel regions still run in parallel.
cpu_tests() {
    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive run ctest --test-dir build-cpu -j "$(nproc)" --output-on-failure "$@"
}
cuda_configure() {
    configure build-cuda -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=ON \
        -DCMAKE_CUDA_COMPILER="$(nvcc_path)" "$@"
}
cuda_build() {
    cuda_configure "$@"
    build build-cuda
}
# Compiles and links all CUDA code. The tests hold none, so without a GPU they need not be compiled a second time.
cuda_program_build() {
    cuda_configure
    build build-cuda pastur
}
# Runs all tests in one process, because creating a CUDA context takes longer than most tests.
cuda_tests() { run build-cuda/pastur_tests --gtest_brief=1 "$@"; }
# Warnings are not errors here, because GCC reports false ones in instrumented code.
asan_build() {
    configure build-asan -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG='-O1 -g1' -DPASTUR_WERROR=OFF \
        -DPASTUR_CUDA=OFF -DPASTUR_MPI=OFF -DPASTUR_SANITIZE=address,undefined
    build build-asan pastur_tests pastur
}
# Container overflow checks are off: the system's libraries are not instrumented, so containers that they
# changed would be reported as overrun.
under_sanitizers() {
    ASAN_OPTIONS=detect_container_overflow=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 run "$@"
}
asan_tests() { under_sanitizers build-asan/pastur_tests --gtest_brief=1 "$@"; }

# Builds the parsers of outside bytes and their tests with sanitizers. Everything else is compiled as in the
# CPU build, so ccache can supply its objects.
parser_build() {
    configure build-parsers -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=OFF \
        -DPASTUR_SANITIZE=address,undefined -DPASTUR_SANITIZE_MATHS=OFF
    build build-parsers pastur_parser_tests
}
# Test suites of all code that reads outside bytes, such as recipes, shards, corpora and checkpoints.
parser_suites='*Config*:*Shard*:*Corpus*:*ByteSource*:*Utf8*:*Tokenizer*:*SentencePiece*:*Prepare*:*Meta*'
parser_suites+=':*Bpe*:*Nfc*'
parser_suites+=':*Loader*:*Safetensors*:*Manifest*:*Checkpoint*:*ModelFolder*:*Hf*:*Npz*:*Json*:*Overrides*:*ChoiceFile*'
# Excluded: a test that spends more than a minute on hashing, and the fuzzers, which tools/test.sh runs in
# their own stage.
parser_suites+='-CheckpointDamage.EveryFlippedBit*:Fuzz.*'
parser_tests() { under_sanitizers build-parsers/pastur_parser_tests --gtest_brief=1 --gtest_filter="$parser_suites" "$@"; }

# fuzz_targets SECONDS [GTEST ARGS...]: runs every fuzzer for SECONDS, two at a time. With
# --gtest_output=xml:NAME.xml the fuzzers' first half reports in NAME.xml and the second in NAME.2.xml.
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

# sources PATTERN...: prints the matching files that git lists or, in a tree without git, all matching files.
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

# Prints the name of clang-format 14. Other major versions format the same code differently.
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
