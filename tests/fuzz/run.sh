#!/usr/bin/env bash
# Fuzzes every target in turn, each for so many seconds (60 if none are said), under AddressSanitizer:
#
#     tests/fuzz/run.sh [SECONDS]
#     tests/fuzz/run.sh --smoke     a few thousand inputs each, in seconds, without AddressSanitizer and cargo-fuzz
#
# Ends with 1 at the end if any target broke; the inputs that did it are in artifacts/, and what was found on the way is
# kept in corpus/ for the next run. Unit tests call the same functions, so `cargo test` alone keeps them whole.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")"

smoke() {
    local host target
    host=$(rustc -vV | sed -n 's/^host: //p')
    # What cargo-fuzz passes, less what takes an unstable compiler: libFuzzer wants to see which code ran.
    local flags='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3'
    flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1'
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../../target}/fuzz-smoke
    # For the host by name, so that build scripts are not instrumented.
    RUSTFLAGS=$flags cargo build --locked --quiet --target "$host"
    for target in targets/*.rs; do
        target=$(basename "$target" .rs)
        "$CARGO_TARGET_DIR/$host/debug/$target" -runs=3000 -max_total_time=20 -timeout=10 -verbosity=0 -print_funcs=0 \
            -artifact_prefix="$PWD/artifacts/"
        printf '%s held\n' "$target"
    done
}

if [[ ${1:-} == --smoke ]]; then
    mkdir -p artifacts
    smoke
    exit
fi

readonly SECONDS_EACH=${1:-60}
[[ $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || {
    printf 'usage: tests/fuzz/run.sh [SECONDS | --smoke]\n' >&2
    exit 2
}

# Sanitizers are unstable options, which the stable compiler takes with this.
export RUSTC_BOOTSTRAP=1
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked

fuzz() {
    local command=$1
    shift
    cargo fuzz "$command" --fuzz-dir . --target-dir ../../target/fuzz "$@"
}

fuzz build
broken=()
for target in targets/*.rs; do
    target=$(basename "$target" .rs)
    printf '\n=== %s\n' "$target"
    fuzz run "$target" -- -max_total_time="$SECONDS_EACH" -timeout=10 \
        -print_final_stats=1 -print_funcs=0 -verbosity=0 || broken+=("$target")
done
if ((${#broken[@]} > 0)); then
    printf '\n=== broken: %s\n' "${broken[*]}" >&2
    exit 1
fi
printf '\n=== all held\n'
