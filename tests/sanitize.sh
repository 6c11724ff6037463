#!/usr/bin/env bash
# Looks for memory errors in the unsafe code; what threads do to each other is loom's, in tests/run.sh.
#
# - AddressSanitizer, leaks included: the tests of the three crates with unsafe code, then the end-to-end tests with a
#   broker built the same way, with io_uring and with epoll. Sanitizers are unstable options, which the stable compiler takes with RUSTC_BOOTSTRAP=1.
# - Valgrind's memcheck: the unit tests of simd and router, and those of the driver on epoll, for what AddressSanitizer does not
#   see: octets that are used and were never written. Not those on io_uring, for Valgrind does not know what that writes.
#
# For x86-64 and AArch64 on Linux. No part of tests/run.sh: it takes minutes, and needs Valgrind (Debian: valgrind).
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null 2>&1 || {
    printf 'sanitize: valgrind is missing; as root: apt-get install valgrind\n' >&2
    exit 1
}

readonly TARGET=${CARGO_TARGET_DIR:-target}/sanitize
HOST=$(rustc -vV | sed -n 's/^host: //p')
readonly HOST

# With --target, build scripts and macros are not sanitized.
asan() {
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --locked --target-dir "$TARGET" --target "$HOST" "$@"
}

memcheck() {
    local host=${HOST//-/_}
    local valgrind=(
        valgrind --quiet --error-exitcode=99
        # What is only possibly lost is the main thread's handle, which std keeps.
        --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite
    )
    env "CARGO_TARGET_${host^^}_RUNNER=${valgrind[*]}" \
        cargo test --locked --target-dir "$TARGET" --target "$HOST" "$@"
}

step() {
    local start=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== passed in %d s\n' "$((SECONDS - start))"
}

step asan -p tidecast-simd -p tidecast-driver -p tidecast-router --tests
# Not the test of 20 million deliveries: at this speed its publishers run out of patience.
for driver in io_uring epoll; do
    TIDECAST_DRIVER=$driver step asan -p tidecast --test delivery --test bad_input --test draft07 --test start --test stop \
        -- --skip every_subscriber_gets_every_message_of_four_publishers
done
step memcheck -p tidecast-simd -p tidecast-router --lib
# Valgrind warns that it does not know epoll_pwait2; the driver does without it then.
step memcheck -p tidecast-driver --lib -- tests::epoll:: accepts::tests buffers::tests
