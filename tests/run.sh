#!/usr/bin/env bash
# Everything that must hold before a change is taken: setup, format, lints, tests, interleavings, documentation.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export DEBIAN_FRONTEND=noninteractive

step() {
    local name=$1 start=$SECONDS status=0
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    "$@" || status=$?
    if ((status != 0)); then
        printf '=== %s FAILED after %d s\n' "$name" "$((SECONDS - start))" >&2
        exit "$status"
    fi
    printf '=== %s passed in %d s\n' "$name" "$((SECONDS - start))"
}

# Built apart, for every crate is another one under loom's flags.
readonly LOOM=(
    env RUSTFLAGS='--cfg loom --cfg crossbeam_loom'
    cargo test --locked --target-dir "${CARGO_TARGET_DIR:-target}/loom"
)

step setup tests/setup.sh
step format cargo fmt --all --check
step dependencies tests/deny.sh
step lints cargo clippy --locked --workspace --all-targets -- -D warnings
step tests cargo test --locked --workspace
# All that goes over the wire, a second time: above it was io_uring, where there is one.
step 'tests with epoll' env TIDECAST_DRIVER=epoll cargo test --locked -p tidecast \
    --test admin --test auth --test bad_input --test binary --test conformance --test deflate_stream --test delivery \
    --test draft07 --test events --test flood --test interop --test limits --test logs --test outside --test reload \
    --test requests --test slow --test start --test stop --test tls
step deployment tests/deploy.sh
step 'tests of the asynchronous client' cargo test --locked -p tidecast-client --features tokio
step 'loom, router' "${LOOM[@]}" -p tidecast-router --test loom --test hub_loom
step 'loom, worker' "${LOOM[@]}" -p tidecast-worker --lib -- sleep:: tally::
step 'fuzz targets, a few inputs' tests/fuzz/run.sh --smoke
step 'benchmarks, once each' cargo test --locked --bench unmask --bench decode --bench inflate --bench handshake --bench hub -- --test
step 'the ceiling, briefly' cargo test --locked --bench ceiling -- --subscribers 10 --window 4 --seconds 0.2
step 'ways to send, briefly' cargo test --locked -p tidecast-driver --bench sends -- --connections 8 --sizes 130,4096 --seconds 2
# It makes a network of its own, which takes root.
if ((EUID == 0)); then
    step 'comparison, briefly' benches/compare/run.py --smoke --tidecast "${CARGO_TARGET_DIR:-target}/debug/tidecast"
    step 'comparison without WebSockets, briefly' benches/compare/plain_http.py --rounds 1 --seconds 0.3 --subscribers 20 \
        --tidecast "${CARGO_TARGET_DIR:-target}/debug/tidecast"
fi
step documentation env RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
printf '\n=== all passed in %d s\n' "$SECONDS"
