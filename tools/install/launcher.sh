#!/usr/bin/env bash
# Starts the program of this bundle with the bundle's libraries. They come first, so modules of a cluster cannot replace
# them, and /usr/local/cuda comes last, so LD_LIBRARY_PATH can select another CUDA.
here=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
export LD_LIBRARY_PATH=$here/lib/pastur${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}:/usr/local/cuda/lib64
exec "$here/libexec/pastur" "$@"
