#!/usr/bin/env bash
# Builds a Debian package of the broker with its service, completions and manual pages, and says where it is. Installs cargo-deb
# if it is missing. With --binary FILE that binary is packed, and nothing is compiled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=3.8.0

die() {
    printf 'package: %s\n' "$*" >&2
    exit 1
}

binary=
if (($# == 2)) && [[ $1 == --binary ]]; then
    binary=$2
elif (($# > 0)); then
    die "usage: deploy/package.sh [--binary FILE]"
fi
if ! cargo deb --version 2>/dev/null | grep -qF "$VERSION"; then
    # Not optimised: it is built once and runs for seconds.
    cargo install cargo-deb --version "$VERSION" --locked --debug --quiet
fi
target=$(cargo metadata --locked --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
if [[ -z $binary ]]; then
    cargo build --locked --release --bin tidecast
    binary=$target/release/tidecast
fi

# cargo-deb takes what is built from here. What it is told to call target/release is `release` in there.
stage=$target/package
made=$stage/release/made
rm -rf "$stage"
mkdir -p "$made/man"
cp "$binary" "$stage/release/tidecast"
"$binary" docs man "$made/man"
gzip --best --no-name "$made"/man/*
"$binary" docs completions bash >"$made/tidecast.bash"
"$binary" docs completions zsh >"$made/_tidecast"
"$binary" docs completions fish >"$made/tidecast.fish"
CARGO_TARGET_DIR=$stage cargo deb --locked --no-build --strip --quiet --output "$target/debian/"
