#!/usr/bin/env bash
# Builds and runs the broker from this checkout. Installs the C linker that Rust needs, if there is none, as root;
# otherwise says what is missing. Arguments are those of `tidecast serve`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'run: %s\n' "$*" >&2
    exit 1
}

command -v cargo >/dev/null || die "Rust is missing: install it with rustup, or put cargo in the PATH"
if ! command -v cc >/dev/null; then
    command -v apt-get >/dev/null || die "a C linker (cc) is missing: install gcc or clang"
    ((EUID == 0)) || die "a C linker is missing; as root: apt-get install build-essential"
    printf 'run: installing build-essential\n' >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install build-essential >/dev/null
fi
exec cargo run --locked --release -- serve "$@"
