#!/usr/bin/env bash
# Commands for developers.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/dev.sh COMMAND

  cpu [CTEST ARGS]     build without CUDA in build-cpu and run the tests, e.g. tools/dev.sh cpu -R RmsNorm
  cuda [GTEST ARGS]    build with CUDA in build-cuda; run the tests if there is a GPU
  asan [GTEST ARGS]    build with ASan and UBSan in build-asan and run the tests
  fuzz [SECONDS]       feed damaged bytes to every parser for SECONDS each (default: 60), two parsers at a time,
                       under ASan and UBSan
  attack [MIB]         give every parser files of MIB MiB (default: 16) that are made to cost much, and print a
                       table of time and memory against size
  sanitize [FILTER]    run the CUDA op tests under memcheck, racecheck, initcheck and synccheck; needs a GPU
  format               format every source by .clang-format
  bundle               make dist/pastur, a folder with the CUDA build that runs on a GPU machine without further
                       packages
TEXT
}

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

cuda() {
    nvcc_path >/dev/null || die "install the CUDA toolkit: no nvcc on PATH or in /usr/local/cuda/bin"
    cuda_build
    if have_gpu; then cuda_tests "$@"; else echo "No GPU found: the tests were built but not run."; fi
}

# sanitize [FILTER]: runs every tool, even after one has found errors. FILTER is a GoogleTest filter. cuBLAS's
# own kernels (nvjet) are excluded: racecheck does not understand the barriers of their TMA copies.
sanitize() {
    have compute-sanitizer || PATH=$PATH:/usr/local/cuda/bin
    have compute-sanitizer || die "install the CUDA toolkit: compute-sanitizer is part of it"
    have_gpu || die "run this on a machine with a GPU: compute-sanitizer checks kernels while they run"
    local tool bad=()
    for tool in memcheck racecheck initcheck synccheck; do
        run compute-sanitizer --tool "$tool" --error-exitcode 1 --kernel-regex-exclude kns=nvjet \
            build-cuda/pastur_tests --gtest_brief=1 --gtest_filter="${1:-Ops/*cuda*}" || bad+=("$tool")
    done
    ((${#bad[@]} == 0)) || die "errors under ${bad[*]}"
}

format() {
    local formatter
    formatter=$(clang_format) || die "clang-format 14 is missing: run tools/install_deps.sh --format"
    sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.js' | xargs -r "$formatter" -i
}

# libraries_of PROGRAM...: prints the shared libraries that the programs load, except those of glibc and CUDA,
# which the GPU machine provides.
libraries_of() {
    ldd "$@" | awk '/=> \// { print $3 }' | sort -u |
        grep -Ev '/(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl)\.so.*|lib(cuda|cudart|cublas|cublasLt|cusolver|cusparse|curand|nvJitLink|nvidia|nccl)[.-].*)$'
}

bundle() {
    cuda_build -DCMAKE_CUDA_ARCHITECTURES="${ARCHITECTURES:-80;90a-real}"
    local folder=dist/pastur
    rm -rf "$folder"
    mkdir -p "$folder"/{bin,lib,tools/peers,tests}
    # Tests of full disks and of stop signals preload libpastur_faults.so.
    cp build-cuda/pastur build-cuda/pastur_tests build-cuda/libpastur_faults.so "$folder/bin/"
    libraries_of build-cuda/pastur build-cuda/pastur_tests | xargs -I '{}' cp -L '{}' "$folder/lib/"
    strip --strip-unneeded "$folder"/bin/* "$folder"/lib/*
    cp -r tools/recipes tools/slurm tools/study "$folder/tools/"
    cp tools/peers/*.py "$folder/tools/peers/"
    mkdir "$folder/tests/golden"
    cp tests/golden/*.safetensors "$folder/tests/golden/"
    # The bundle's libraries come first and /usr/local/cuda last, so LD_LIBRARY_PATH can select another CUDA.
    cat >"$folder/pastur" <<'TEXT'
#!/usr/bin/env bash
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
exec "$here/bin/pastur" "$@"
TEXT
    cat >"$folder/run_tests.sh" <<'TEXT'
#!/usr/bin/env bash
# Runs all tests on this machine's devices. Arguments go to GoogleTest. PASTUR_UNDER names a program to run
# them under, e.g. PASTUR_UNDER="compute-sanitizer --tool memcheck --error-exitcode 1".
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
export PASTUR_SOURCE_DIR=$here
exec ${PASTUR_UNDER:-} "$here/bin/pastur_tests" --gtest_brief=1 "$@"
TEXT
    chmod +x "$folder/pastur" "$folder/run_tests.sh"
    du -sh "$folder"
}

command=${1:-help}
(($# == 0)) || shift
case $command in
    cpu)
        cpu_build
        cpu_tests "$@"
        ;;
    cuda) cuda "$@" ;;
    asan)
        asan_build
        asan_tests "$@"
        ;;
    fuzz)
        parser_build
        fuzz_targets "${1:-60}"
        ;;
    attack)
        cpu_build
        echo "| file | outcome | MiB | s at a quarter | s | peak MiB at a quarter | peak MiB | peak / size |"
        PASTUR_ATTACK_MIB=${1:-16} build-cpu/pastur_tests --gtest_brief=1 --gtest_filter='Attack.*'
        ;;
    sanitize) sanitize "$@" ;;
    format) format ;;
    bundle) bundle ;;
    help | -h | --help) usage ;;
    *) die "unknown command $command (see tools/dev.sh help)" ;;
esac
