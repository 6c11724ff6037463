#!/usr/bin/env bash
# Licences, sources, duplicates and known weaknesses of what is built in. Installs cargo-deny if it is missing. The list of known
# weaknesses is fetched; where it cannot be reached the rest is checked, and that is said.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VERSION=0.20.2

if ! cargo deny --version 2>/dev/null | grep -qF "$VERSION"; then
    # Not optimised: it is built once and runs for a second.
    cargo install cargo-deny --version "$VERSION" --locked --debug --quiet
fi
deny=(cargo deny --locked --config tests/deny.toml)
if timeout 60 "${deny[@]}" fetch db >/dev/null 2>&1; then
    "${deny[@]}" check
else
    # Also what is built on other systems only: it is looked at too, and no build has fetched it.
    cargo fetch --locked --quiet
    printf 'the list of known weaknesses (RustSec) cannot be reached: not checked for those\n'
    "${deny[@]}" --offline check licenses bans sources
fi
