#!/usr/bin/env bash
# What is in deploy/, as far as a machine without containers and clusters can look at it; as root, also how a real systemd runs the
# package, in namespaces of its own. It is the binary of the other tests that is deployed, or the one that is named. Installs what it lacks, as root; tests/setup.sh has to have run.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'deploy: %s\n' "$*" >&2
    exit 1
}

packages=()
command -v systemd-analyze >/dev/null || packages+=(systemd)
command -v promtool >/dev/null || packages+=(prometheus)
command -v lintian >/dev/null || packages+=(lintian)
command -v ip >/dev/null || packages+=(iproute2)
command -v curl >/dev/null || packages+=(curl)
if ((${#packages[@]} > 0)); then
    command -v apt-get >/dev/null || die "missing: ${packages[*]} (Debian's names)"
    ((EUID == 0)) || die "missing: ${packages[*]}; as root: apt-get install --no-install-recommends ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Prometheus itself is not needed, only what checks its files.
    had_prometheus=$(command -v prometheus || true)
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install "${packages[@]}" >/dev/null
    if [[ -z $had_prometheus && -d /run/systemd/system ]]; then
        systemctl --quiet disable --now prometheus
    fi
fi

binary=${1:-${CARGO_TARGET_DIR:-target}/debug/tidecast}
[[ -x $binary ]] || die "$binary is not there: cargo build, or name another one"
python=$PWD/tests/interop/.venv/bin/python
[[ -x $python ]] || die "the packages of tests/interop are not there: tests/setup.sh"
export TIDECAST_BINARY
TIDECAST_BINARY=$(realpath "$binary")
# Nothing is left behind in the tree.
export PYTHONDONTWRITEBYTECODE=1
exec "$python" -m unittest discover --start-directory tests/deploy
