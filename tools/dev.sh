#!/usr/bin/env bash
# What developers do often.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/dev.sh COMMAND

  cpu [CTEST ARGS]     build without CUDA in build-cpu, run the tests; e.g. tools/dev.sh cpu -R RmsNorm
  cuda [GTEST ARGS]    build with CUDA in build-cuda; run the tests where there is a GPU
  asan [GTEST ARGS]    build with ASan and UBSan in build-asan, run the tests
  fuzz [SECONDS]       feed each parser with damaged bytes for that long (60), two at a time, under
                       ASan and UBSan
  sanitize [FILTER]    memcheck, racecheck, initcheck and synccheck of the CUDA op tests, on a GPU machine
  format               lay out every source by .clang-format
  bundle               dist/pastur: the CUDA build as a folder that runs on a GPU machine without these packages
TEXT
}

# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

cuda() {
    nvcc_path >/dev/null || die "no nvcc on PATH or in /usr/local/cuda/bin: install the CUDA toolkit"
    cuda_build
    if have_gpu; then cuda_tests "$@"; else echo "No GPU here: the tests were built, not run."; fi
}

# Every tool even when one finds something; the filter is GoogleTest's. cuBLAS's own kernels (nvjet) are left out:
# racecheck does not follow the barriers of their copy engine.
sanitize() {
    have compute-sanitizer || PATH=$PATH:/usr/local/cuda/bin
    have compute-sanitizer || die "no compute-sanitizer: it comes with the CUDA toolkit"
    have_gpu || die "no GPU: compute-sanitizer watches kernels as they run"
    local tool bad=()
    for tool in memcheck racecheck initcheck synccheck; do
        run compute-sanitizer --tool "$tool" --error-exitcode 1 --kernel-regex-exclude kns=nvjet \
            build-cuda/pastur_tests --gtest_brief=1 --gtest_filter="${1:-Ops/*cuda*}" || bad+=("$tool")
    done
    ((${#bad[@]} == 0)) || die "errors under ${bad[*]}"
}

format() {
    local formatter
    formatter=$(clang_format) || die "clang-format 14 is missing: tools/install_deps.sh --format"
    sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.js' | xargs -r "$formatter" -i
}

# Shared libraries that a program loads, without those of glibc and CUDA, which the other machine has.
libraries_of() {
    ldd "$@" | awk '/=> \// { print $3 }' | sort -u |
        grep -Ev '/(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl)\.so.*|lib(cuda|cudart|cublas|cublasLt|cusolver|cusparse|curand|nvJitLink|nvidia|nccl)[.-].*)$'
}

bundle() {
    cuda_build
    local folder=dist/pastur
    rm -rf "$folder"
    mkdir -p "$folder"/{bin,lib,tools,tests}
    # The library beside them is what the tests of full disks and of stops preload.
    cp build-cuda/pastur build-cuda/pastur_tests build-cuda/libpastur_faults.so "$folder/bin/"
    libraries_of build-cuda/pastur build-cuda/pastur_tests | xargs -I '{}' cp -L '{}' "$folder/lib/"
    strip --strip-unneeded "$folder"/bin/* "$folder"/lib/*
    cp -r tools/recipes "$folder/tools/"
    mkdir "$folder/tests/golden"
    cp tests/golden/*.safetensors "$folder/tests/golden/"
    # Our libraries come first and CUDA's last, so that the machine's own CUDA is used.
    cat >"$folder/pastur" <<'TEXT'
#!/usr/bin/env bash
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
exec "$here/bin/pastur" "$@"
TEXT
    cat >"$folder/run_tests.sh" <<'TEXT'
#!/usr/bin/env bash
# All tests on this machine's devices; arguments are GoogleTest's. PASTUR_UNDER runs them under another program,
# e.g. PASTUR_UNDER="compute-sanitizer --tool memcheck --error-exitcode 1".
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
    sanitize) sanitize "$@" ;;
    format) format ;;
    bundle) bundle ;;
    help | -h | --help) usage ;;
    *) die "unknown command $command (see tools/dev.sh help)" ;;
esac
