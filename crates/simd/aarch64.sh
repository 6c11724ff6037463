#!/bin/sh
# Runs the tests of this crate for AArch64, and so of its NEON, on another architecture. It takes a compiler with the
# target's standard library, a linker, a C library and an emulator:
#   rustup target add aarch64-unknown-linux-gnu
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
# Debian's own compiler will do as well, with RUSTC=/usr/bin/rustc:
#   dpkg --add-architecture arm64 && apt-get update && apt-get install rustc-web libstd-rust-web-dev:arm64
set -eu
cd "$(dirname "$0")"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
exec cargo test --lib --target aarch64-unknown-linux-gnu "$@"
