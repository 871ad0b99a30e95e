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
  bundle [--cpu]       make dist/pastur, a folder with the CUDA build, its libraries and tests, which runs without
                       further packages, and dist/pastur-VERSION-ARCH.tar.zst, the same without tests
  deb [--cuda]         make a Debian package in dist/
  readme [--only RE]   run the commands of every README that a CPU can run, in a copy of what git has, and list the rest
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

# licences_of FOLDER LIBRARY...: copies the licences of the packages that hold the libraries, and prints their versions.
licences_of() {
    local folder=$1 library package
    shift
    mkdir -p "$folder"
    for library in "$@"; do
        # A package knows its libraries by their names before or after the merge of /lib into /usr/lib.
        package=$(dpkg-query -S "$library" "${library#/usr}" 2>/dev/null | head -1 | cut -d: -f1 || true)
        [[ -n $package ]] || die "$library belongs to no package, so its licence is unknown"
        cp -n "/usr/share/doc/$package/copyright" "$folder/$package"
        dpkg-query -W -f='${Package} ${Version}\n' "$package"
    done | sort -u
}

# manifest BUILD LIBRARY...: what a bundle was made of.
manifest() {
    local build=$1 glibc
    shift
    glibc=$(objdump -T "$build/pastur" "$@" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
    "$build/pastur" --version
    echo "Architecture: $(uname -m), AVX2; glibc ${glibc#GLIBC_} or newer"
    sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[A-Z]*=/GPU architectures: /p' "$build/CMakeCache.txt"
    echo "Libraries in lib/pastur, from these packages, whose licences are in share/doc/pastur/third-party:"
    licences_of dist/pastur/share/doc/pastur/third-party "$@" | sed 's/^/  /'
}

# bundle [--cpu]: dist/pastur holds the program, the libraries it loads and the tests; the archive all but the tests.
bundle() {
    local build=build-cuda name folder=dist/pastur libraries date
    name=pastur-$(sed -n 's/^project(pastur VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)-$(uname -m)
    if [[ ${1:-} == --cpu ]]; then
        build=build-cpu name+=-cpu
        cpu_build
    else
        (($# == 0)) || die "bundle takes --cpu or no argument"
        cuda_build -DCMAKE_CUDA_ARCHITECTURES="${ARCHITECTURES:-80;90a-real}"
    fi
    rm -rf "$folder"
    run cmake --install "$build" --prefix "$PWD/$folder" >/dev/null
    mkdir -p "$folder"/{libexec,lib/pastur}
    mv "$folder/bin/pastur" "$folder/libexec/pastur"
    cp tools/install/launcher.sh "$folder/bin/pastur"
    cp tools/install/smoke_test.sh "$folder/"
    mapfile -t libraries < <(libraries_of "$build/pastur" | xargs -n 1 readlink -f)
    libraries_of "$build/pastur" | xargs -I '{}' cp -L '{}' "$folder/lib/pastur/"
    strip --strip-unneeded "$folder"/libexec/* "$folder"/lib/pastur/*
    manifest "$build" "${libraries[@]}" >"$folder/MANIFEST"
    (cd "$folder" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum) >dist/SHA256SUMS
    mv dist/SHA256SUMS "$folder/"
    date=$(git log -1 --format=%ct 2>/dev/null || date +%s)
    run tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$date" --transform "s,^pastur,$name," \
        -C dist --use-compress-program='zstd -q -T0 -12' -cf "dist/$name.tar.zst" pastur
    bundle_tests "$build" "$folder"
    ln -s bin/pastur "$folder/pastur"
    du -sh "$folder" "dist/$name.tar.zst"
    rm -rf "dist/$name"
    run tar -C dist -xf "dist/$name.tar.zst"
    run "dist/$name/smoke_test.sh" --device cpu
    rm -rf "dist/$name"
}

# bundle_tests BUILD FOLDER: adds the tests and the files that they read.
bundle_tests() {
    local build=$1 folder=$2
    # Tests load libpastur_*.so: faults of the disk, a driver's and a profiler's library.
    cp "$build/pastur_tests" "$build"/libpastur_*.so "$folder/libexec/"
    libraries_of "$build/pastur_tests" | xargs -I '{}' cp -n -L '{}' "$folder/lib/pastur/"
    strip --strip-unneeded "$folder"/libexec/{pastur_tests,libpastur_*.so}
    mkdir -p "$folder"/tools/peers "$folder/tests/golden"
    cp -r tools/recipes tools/slurm tools/study "$folder/tools/"
    cp tools/peers/*.py "$folder/tools/peers/"
    cp tests/golden/*.safetensors "$folder/tests/golden/"
    cp tools/install/run_tests.sh "$folder/"
}

# deb [--cuda]: a package for this machine's Debian or Ubuntu. Libraries of CUDA are not packages of these systems, so
# the package with --cuda needs a toolkit or its libraries where this machine has them.
deb() {
    local cuda=OFF
    if [[ ${1:-} == --cuda ]]; then cuda=ON; else (($# == 0)) || die "deb takes --cuda or no argument"; fi
    have dpkg-shlibdeps || die "dpkg-shlibdeps is missing: run tools/install_deps.sh --package"
    configure build-package -DCMAKE_BUILD_TYPE=Release -DPASTUR_BUILD_TESTS=OFF -DPASTUR_CUDA=$cuda
    build build-package pastur manual
    mkdir -p dist
    (cd build-package && run cpack -G DEB -B "$PWD/../dist/cpack" >/dev/null)
    mv dist/cpack/*.deb dist/
    rm -rf dist/cpack
    ls -l dist/*.deb
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
    bundle) bundle "$@" ;;
    deb) deb "$@" ;;
    readme)
        configure build-cpu -DCMAKE_BUILD_TYPE=Release -DPASTUR_WERROR=ON -DPASTUR_CUDA=OFF
        build build-cpu pastur
        tests/readme/run_commands.py --pastur build-cpu/pastur "$@"
        ;;
    help | -h | --help) usage ;;
    *) die "unknown command $command (see tools/dev.sh help)" ;;
esac
