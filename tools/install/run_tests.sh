#!/usr/bin/env bash
# Runs all tests on this machine's devices. Arguments go to GoogleTest. PASTUR_UNDER names a program to run
# them under, e.g. PASTUR_UNDER="compute-sanitizer --tool memcheck --error-exitcode 1".
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH=$here/lib/pastur${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
export PASTUR_SOURCE_DIR=$here
exec ${PASTUR_UNDER:-} "$here/libexec/pastur_tests" --gtest_brief=1 "$@"
