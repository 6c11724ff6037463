"""One measurement: a server started anew, a load on it, what came of it, and nothing left behind."""

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from peers import Peer, Place
from rows import Row

SERVER_CORE, GENERATOR_CORE = "0", "1"
# `CLONE_NEWNET` of <sched.h>; Python has it as of version 3.12.
NEW_NETWORK = 0x4000_0000
# How long a server may take to start, and to end.
START, END = 15, 15
# What a run of the generator may take beyond its span: opening connections, and waiting for what is in flight.
BEYOND = 180
# The exit codes of `tidecast bench`.
LOST = 5
WRONG_USAGE = 2
WARM_UP = "500ms"
# Those that keep a compressor for each connection make a thousand of them with the first message.
WARM_UP_COMPRESSED = "2s"


class Failed(Exception):
    """A measurement did not come about, or means nothing."""


def enter_network() -> None:
    """Moves this process, and whatever it starts, into a network of its own whose loopback uses cubic.

    The default of some systems, bbr, paces, and a paced loopback measures the pacing. The network ends with its last
    process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK) != 0:
        sys.exit(f"a network namespace of its own is needed, and takes root: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for prefix in ("127.0.0.0/8", "127.0.0.1"):
        route = f"local {prefix} dev lo table local proto kernel scope host src 127.0.0.1 congctl cubic"
        subprocess.run(["ip", "route", "replace", *route.split()], check=True)
    # Servers and generator inherit as many descriptors as there may be.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def on_cores(cores: str, command: list[str]) -> list[str]:
    """`command` on these cores, ending with this process, whatever ends it. Neither changes the pid."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", cores, *command]


@contextlib.contextmanager
def process(command: list[str], **streams) -> Iterator[subprocess.Popen]:
    """Starts a process, and ends it in any case. Ctrl-C reaches it by that alone: it has a session of its own."""
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, text=True, **streams)
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(END)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextlib.contextmanager
def server(
    tidecast: pathlib.Path, name: str, peer: Peer, row: Row, said: pathlib.Path | None = None
) -> Iterator[list[int]]:
    """A server that takes connections; gives the pids of the processes that do its work. What it says is in `said`."""
    with tempfile.TemporaryDirectory(prefix="tidecast-compare-") as directory:
        # Its workers may have another user than it has.
        os.chmod(directory, 0o755)
        said = said or pathlib.Path(directory) / "output"
        place = Place(
            threads=row.cores, compressed=row.compressed, directory=pathlib.Path(directory), secure=row.secure
        )
        if row.secure:
            make = [str(tidecast), "dev-cert", "--out", str(place.certificate.parent)]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        cores = SERVER_CORE if row.cores == 1 else f"{SERVER_CORE},{GENERATOR_CORE}"
        with (
            said.open("w") as log,
            process(on_cores(cores, peer.command(place)), stdout=log, stderr=subprocess.STDOUT) as started,
        ):
            deadline = time.monotonic() + START
            while not (pids := ready(peer, started.pid, row.cores)):
                if started.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{name} did not start: {said.read_text()[-2000:].strip()}")
                time.sleep(0.02)
            yield pids


def ready(peer: Peer, pid: int, threads: int) -> list[int]:
    """The pids of those that do the work, if all are there and one can connect."""
    try:
        workers = [pid]
        if peer.forks:
            workers = [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            if len(workers) != threads:
                return []
        socket.create_connection(("127.0.0.1", peer.port), timeout=1).close()
        return workers
    except OSError:
        return []


def load(tidecast: pathlib.Path, peer: Peer, row: Row, pids: list[int], seconds: float, rate: float | None) -> dict:
    """The report of the generator about a load on a server."""
    command = [str(tidecast), "bench", *row.load.split(), "--json", "--progress", "never"]
    scheme = "wss" if row.secure else "ws"
    command += ["--url", f"{scheme}://127.0.0.1:{peer.port}", "--protocol", peer.protocol]
    if row.secure:
        command += ["--tls-insecure"]
    for pid in pids:
        command += ["--server-pid", str(pid)]
    if row.scenario == "idle":
        # How long they are held does not matter to what they take.
        command += ["--duration", "500ms"]
    else:
        warm_up = WARM_UP_COMPRESSED if row.compressed else WARM_UP
        command += ["--duration", f"{seconds}s", "--warmup", warm_up]
    if rate is not None:
        command += ["--rate", f"{rate:.3f}"]
    command += ["--threads", "2"] if row.shared else ["--core", GENERATOR_CORE]
    cores = f"{SERVER_CORE},{GENERATOR_CORE}" if row.shared else GENERATOR_CORE
    with process(on_cores(cores, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as generator:
        try:
            said, complaints = generator.communicate(timeout=seconds + BEYOND)
        except subprocess.TimeoutExpired:
            raise Failed("the generator did not end") from None
    if generator.returncode == WRONG_USAGE:
        sys.exit(f"{' '.join(command)}\n{complaints}")
    if generator.returncode not in (0, LOST) or not said:
        raise Failed(complaints.strip() or f"the generator ended with {generator.returncode}")
    report = json.loads(said)
    if generator.returncode == LOST:
        faults = ", ".join(f"{count:,} {fault}" for fault, count in report["faults"].items() if count)
        raise Failed("; ".join(filter(None, [faults, *report["errors"][:2]])))
    return report


def numbers(row: Row, report: dict, rate: float | None) -> dict:
    """What the tables are made of."""
    used = report["server"]
    if row.scenario in ("ingest", "connect"):
        # Messages known to be taken in, and the round trips by which that is known; or connections, and how long each took.
        messages = report["operations"]
        done, per_second, latency = messages["count"], messages["per_second"], messages["latency_microseconds"]
    else:
        done, per_second = report["deliveries"], report["deliveries_per_second"]
        latency = report["latency_microseconds"]
    result = {
        "per_second": per_second,
        "published_per_second": report["published_per_second"],
        "cpu_seconds": used["cpu_seconds"],
        "cores": used["cores"],
        "resident_bytes": used["resident_bytes"],
        # None was measured where nothing that was sent in the span came before its end.
        **{name: latency[name] for name in ("p50", "p99", "p999") if latency["samples"]},
        "generator_busy": report["generator"]["busiest_thread"],
        "generator_waited": report["generator"]["waited_for_core"],
        "generator_saturated": report["generator"]["saturated"],
    }
    if row.scenario == "idle":
        result["resident_bytes_per_connection"] = used["resident_bytes_per_connection"]
        return result
    if done == 0:
        raise Failed("nothing was done in the span")
    result["cpu_seconds_per_million"] = used["cpu_seconds"] / (done / 1e6)
    if row.subscribers:
        # Framing included: what was compressed for fewer octets than the payload has.
        result["octets_per_delivery"] = report["wire_megabytes_per_second"] * 1e6 / per_second
    if rate is not None:
        # An open loop that a server falls behind in measures how long it ran.
        result["saturated"] = report["deliveries_per_second"] < 0.97 * rate * row.subscribers
    return result


def measure(
    tidecast: pathlib.Path, name: str, peer: Peer, row: Row, *, seconds: float, rate: float | None
) -> dict[str, float | bool]:
    """The numbers of one measurement.

    Raises `Failed` where there are none.
    """
    with server(tidecast, name, peer, row) as pids:
        report = load(tidecast, peer, row, pids, seconds, rate)
    result = numbers(row, report, rate)
    if row.compressed and result["octets_per_delivery"] > 0.9 * report["setup"]["size"]:
        octets = result["octets_per_delivery"]
        sys.exit(f"{name} negotiated compression and does not compress: {octets:.0f} octets a delivery")
    return result
