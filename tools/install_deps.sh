#!/usr/bin/env bash
# Installs the packages that a build of Pastur needs on Debian 12 or Ubuntu 24.04 and that are missing.
#   tools/install_deps.sh            compiler, CMake and libraries
#   tools/install_deps.sh --format   also clang-format 14
#   tools/install_deps.sh --package  also what `tools/dev.sh deb` needs
#   tools/install_deps.sh --browser  also Chromium, in which tests open the page that `pastur report` writes
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"

packages=(
    g++ cmake ninja-build ccache git pkg-config
    libopenblas-dev liblapacke-dev libopenmpi-dev openmpi-bin
    libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libsimdjson-dev libfmt-dev
    libsentencepiece-dev libpcre2-dev libutf8proc-dev zlib1g-dev libzstd-dev libxxhash-dev
    libgtest-dev librapidcheck-dev libbenchmark-dev
)
# Ubuntu's sentencepiece.pc requires protobuf-lite, but its package does not.
if grep -qs '^ID=ubuntu' /etc/os-release; then packages+=(libprotobuf-dev); fi
case ${1:-} in
    --format) clang_format >/dev/null || packages+=(clang-format-14) ;;
    --package) packages+=(dpkg-dev file) ;;
    --browser) have chromium || packages+=(chromium) ;;
    "") ;;
    *) die "unknown argument $1: expected --format, --package, --browser or no argument" ;;
esac

if ! have apt-get; then
    echo "This system has no apt-get. If CMake reports something missing, install what these Debian packages hold:"
    echo "  ${packages[*]}"
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]} > 0)) || exit 0

install=(apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}")
as_root=()
if ((EUID != 0)); then
    # Without a terminal, sudo cannot ask for a password.
    sudo=(sudo)
    [[ -t 0 ]] || sudo=(sudo -n)
    if ! have sudo || ! "${sudo[@]}" true; then
        printf 'Packages are missing, and installing them needs root. Run:\n  sudo sh -c "apt-get update && %s"\n' \
            "${install[*]}" >&2
        exit 1
    fi
    as_root=("${sudo[@]}")
fi
say "Installing ${#missing[@]} missing packages: ${missing[*]}"
run "${as_root[@]}" apt-get update -q
run "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"
