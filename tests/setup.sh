#!/usr/bin/env bash
# Installs what the tests need on Debian with Rust: a C linker, OpenSSL, Node.js, Python, Chromium, two other brokers, and in
# tests/interop the pinned clients. Does nothing, and says nothing, when all is there. Debian packages are installed as root only;
# otherwise the missing ones are named.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/interop"

readonly MIN_NODE=18 MIN_PYTHON=3.11
export DEBIAN_FRONTEND=noninteractive PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

install_packages() {
    (($# > 0)) || return 0
    have apt-get || die "missing: $*; install them (these are Debian's names for them) and run this again"
    ((EUID == 0)) || die "missing: $*; as root: apt-get install --no-install-recommends $*"
    printf 'setup: installing %s\n' "$*"
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

# Runs a command only if `inputs`, which say what its result depends on, are not those of the last success.
once_for() {
    local stamp=$1 inputs=$2
    shift 2
    if [[ ! -f $stamp || $(<"$stamp") != "$inputs" ]]; then
        printf 'setup: %s\n' "${*//_/ }"
        "$@"
        printf '%s\n' "$inputs" >"$stamp"
    fi
}

install_node_modules() {
    npm ci --loglevel=error --no-audit --no-fund >/dev/null
}

install_python_packages() {
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --requirement requirements.txt
}

have cargo || die "Rust is missing: install it with rustup, or put cargo in the PATH"
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || die "cargo $component is missing: rustup component add rustfmt clippy"
done

packages=()
have cc || packages+=(build-essential)
have openssl || packages+=(openssl)
have node || packages+=(nodejs)
have npm || packages+=(npm)
have python3 || packages+=(python3)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
# Without a font the pages would be screenshots of empty boxes.
[[ -x /usr/bin/chromium ]] || packages+=(chromium fonts-dejavu-core)
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || packages+=(ca-certificates)
peers=()
have nats-server || peers+=(nats-server)
have mosquitto || [[ -x /usr/sbin/mosquitto ]] || peers+=(mosquitto)
install_packages "${packages[@]}" "${peers[@]}"
# The tests start them where they want them; as services they would only hold ports.
if ((${#peers[@]} > 0)) && [[ -d /run/systemd/system ]]; then
    systemctl --quiet disable --now "${peers[@]}"
fi

node -e "process.exit(parseInt(process.versions.node) >= $MIN_NODE ? 0 : 1)" ||
    die "Node.js $MIN_NODE or newer is needed, this is $(node --version)"
python3 -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$MIN_PYTHON'.split('.'))))" ||
    die "Python $MIN_PYTHON or newer is needed, this is $(python3 --version)"

once_for node_modules/.installed "$(node --version) $(cksum <package-lock.json)" install_node_modules
once_for .venv/.installed "$(python3 --version) $(cksum <requirements.txt)" install_python_packages
