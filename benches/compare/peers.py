"""Who is measured: how each server is installed and started.

Each has the most favourable configuration that its users would still call theirs. Whatever tells publishers from
subscribers lets it, so that nobody's publisher gets its own messages back.
"""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = os.environ.get("CARGO_TARGET_DIR")
BUN = HERE / "node_modules/bun/bin/bun.exe"
TIDECAST = pathlib.Path(TARGET or ROOT / "target") / "release/tidecast"
TOKIO = pathlib.Path(TARGET or HERE / "tokio/target") / "release/tokio-broadcast"
# Debian keeps servers where only root's PATH leads.
PROGRAMS = os.environ.get("PATH", os.defpath) + ":/usr/sbin"


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and what for a server is started."""

    # Threads it may use.
    threads: int
    # Whether subscribers negotiate permessage-deflate.
    compressed: bool
    # A directory of its own.
    directory: pathlib.Path
    # Whether it speaks TLS, with these.
    secure: bool = False

    @property
    def certificate(self) -> pathlib.Path:
        return self.directory / "tls/cert.pem"

    @property
    def key(self) -> pathlib.Path:
        return self.directory / "tls/key.pem"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A server that messages are fanned out by."""

    # How `tidecast bench` speaks to it.
    protocol: str
    # The one its configuration names.
    port: int
    command: Callable[[Place], list[str]]
    version: Callable[[], str]
    # Whether it need not be installed.
    is_there: Callable[[], bool] = lambda: True
    install: Callable[[], None] = lambda: None
    # Makes what Cargo makes, which knows itself what is old.
    build: Callable[[], None] = lambda: None
    # Whether it speaks TLS itself.
    secures: bool = False
    # Whether it compresses for those that ask for it.
    deflates: bool = False
    # Whether one topic can have more than one of its threads.
    threads: bool = False
    # Whether the work is done by processes it starts.
    forks: bool = False
    # Whether it is this broker, one way or another.
    ours: bool = False


def run(*command: str | os.PathLike, **options) -> None:
    subprocess.run(command, check=True, **options)


def output(*command: str | os.PathLike) -> str:
    """What a command says, wherever it says it and however it ends: for versions."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout.strip()


def cargo_build(project: pathlib.Path) -> None:
    # From here, for a target directory is named from here.
    run("cargo", "build", "--release", "--locked", "--manifest-path", project / "Cargo.toml")


def program(name: str) -> str | None:
    return shutil.which(name, path=PROGRAMS)


def of_debian(binary: str, *packages: str) -> dict:
    """The fields of a peer that is Debian's packages."""
    version = functools.partial(output, "dpkg-query", "--show", "--showformat", "${Version}", packages[-1])

    def is_there() -> bool:
        if program("dpkg-query") is None:
            return False
        status = [output("dpkg-query", "--show", "--showformat", "${db:Status-Status}", name) for name in packages]
        return all(one == "installed" for one in status)

    def install() -> None:
        if os.geteuid() != 0:
            sys.exit(f"{binary} is missing, and only root can install it: apt-get install {' '.join(packages)}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=environment)
        run("apt-get", "install", "-qq", "--no-install-recommends", *packages, env=environment)

    return {"version": version, "is_there": is_there, "install": install}


def locked_version(package: str) -> str:
    """The version of a crate that the tokio server was built with."""
    lock = (HERE / "tokio/Cargo.lock").read_text()
    found = re.search(rf'name = "{package}"\nversion = "([^"]+)"', lock)
    assert found is not None, f"{package} is not in the lock"
    return found[1]


def tidecast(binary: pathlib.Path | None, driver: str) -> Peer:
    """This broker, in a build that is there or else is made: with the defaults, but for the number of workers.

    The driver is named, so that no other takes its place where it cannot be used.
    """
    path = binary or TIDECAST

    def command(place: Place) -> list[str]:
        serve = [str(path), "serve", "--workers", str(place.threads), "--driver", driver]
        if not place.secure:
            return [*serve, "--listen", "127.0.0.1:8080"]
        tls = ["--tls-cert", str(place.certificate), "--tls-key", str(place.key)]
        return [*serve, "--listen", "wss://127.0.0.1:8080", *tls]

    def build() -> None:
        if binary is None:
            cargo_build(ROOT)

    return Peer(
        protocol="raw",
        port=8080,
        command=command,
        version=lambda: output(path, "--version").removeprefix("tidecast "),
        build=build,
        secures=True,
        deflates=True,
        threads=True,
        ours=True,
    )


def bun(place: Place) -> list[str]:
    options = ["deflate"] if place.compressed else []
    if place.secure:
        options += ["tls", str(place.certificate), str(place.key)]
    return [str(BUN), str(HERE / "bun.js"), "8081", *options]


def nats(place: Place) -> list[str]:
    # It takes as many threads as it may run on cores.
    return [program("nats-server"), "-c", str(HERE / "nats.conf")]


def mosquitto(place: Place) -> list[str]:
    return [program("mosquitto"), "-c", str(HERE / "mosquitto.conf")]


def nchan(place: Place) -> list[str]:
    configuration = HERE / "nchan.conf"
    if place.secure:
        text = configuration.read_text()
        plain = "backlog=4096;"
        assert plain in text
        secure = f"ssl {plain}\n        ssl_certificate {place.certificate};\n        ssl_certificate_key {place.key};"
        configuration = place.directory / "nchan.conf"
        configuration.write_text(text.replace(plain, secure))
    return [
        program("nginx"), "-e", "stderr", "-p", str(place.directory), "-c", str(configuration),
        "-g", f"worker_processes {place.threads};",
    ]  # fmt: skip


def tokio(place: Place) -> list[str]:
    return [str(TOKIO), "8085", "--threads", str(place.threads)]


def all_peers(binary: pathlib.Path | None) -> dict[str, Peer]:
    """Every peer by its name; this broker, from a given binary or else built, comes first, with either driver."""
    return {
        "tidecast": tidecast(binary, "io_uring"),
        "tidecast-epoll": tidecast(binary, "epoll"),
        "bun": Peer(
            protocol="raw",
            port=8081,
            command=bun,
            version=lambda: output(BUN, "--version"),
            is_there=BUN.exists,
            install=lambda: run("npm", "ci", "--silent", cwd=HERE),
            secures=True,
            deflates=True,
        ),
        "nats-server": Peer(
            protocol="nats",
            port=8082,
            command=nats,
            deflates=True,
            threads=True,
            **of_debian("nats-server", "nats-server"),
        ),
        "mosquitto": Peer(
            protocol="mqtt",
            port=8083,
            command=mosquitto,
            **of_debian("mosquitto", "mosquitto"),
        ),
        "nchan": Peer(
            protocol="raw",
            port=8084,
            command=nchan,
            secures=True,
            deflates=True,
            threads=True,
            forks=True,
            **of_debian("nginx", "nginx", "libnginx-mod-nchan"),
        ),
        "tokio": Peer(
            protocol="raw",
            port=8085,
            command=tokio,
            version=lambda: f"{locked_version('tokio')}, tungstenite {locked_version('tungstenite')}",
            build=lambda: cargo_build(HERE / "tokio"),
            threads=True,
        ),
    }
