#!/usr/bin/env python3
"""What share of the kernel's limit tidecast reaches: its fan-out beside the same one without a broker.

    benches/compare/ceiling.py [--rounds N] [--seconds S] [--sizes 128,1024] [--windows 1,4,32,256]

`benches/ceiling.rs` hands the kernel one prepared buffer for each connection, by send(2) and by io_uring, as large as all
frames of a window. A broker that does not get a whole window in one turn sends more often, so there is a second limit:
the same with as many sends as the broker needed.

Everything is measured twice: as it is, where loopback runs the receiver's half of TCP at the sender's expense, and steered
(`rps_cpus`), where that half runs on the generator's core, as with a network it would on another machine.

Server and generator have a core each, in a network of their own whose loopback uses cubic. Needs root and Cargo. On a
machine that has other work too, `nice -n -15` puts them before it.
"""

import argparse
import ctypes
import json
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile

from measure import GENERATOR_CORE, enter_network, load, server
from peers import ROOT, TIDECAST, all_peers
from rows import SUBSCRIBERS, Row, fanout

# `CLONE_NEWNS` of <sched.h>.
NEW_MOUNTS = 0x0002_0000
STEERING = pathlib.Path("/sys/class/net/lo/queues/rx-0/rps_cpus")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times that each is measured [default: 3]")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="of each measurement [default: 2]")
    parser.add_argument("--sizes", default="128,1024", metavar="LIST", help="octets [default: 128,1024]")
    parser.add_argument("--windows", default="1,4,32,256", metavar="LIST", help="in flight [default: 1,4,32,256]")
    parser.add_argument("--tidecast", type=pathlib.Path, metavar="FILE", help="the binary; built if not given")
    return parser.parse_args()


def enter_own_sys() -> None:
    """Gives this process a /sys that shows the network it is in."""
    if ctypes.CDLL(None).unshare(NEW_MOUNTS) != 0:
        sys.exit("a mount namespace of its own is needed, and takes root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)


def steer(to_generator: bool) -> None:
    STEERING.write_text(f"{1 << int(GENERATOR_CORE):x}" if to_generator else "0")


def build() -> pathlib.Path:
    """The program without a broker."""
    command = ["cargo", "bench", "--bench", "ceiling", "--no-run", "--locked", "--message-format", "json"]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    built = (json.loads(line) for line in said.splitlines())
    return next(
        pathlib.Path(message["executable"])
        for message in built
        if message.get("executable") and message["target"]["name"] == "ceiling"
    )


def limit(program: pathlib.Path, size: int, window: int, method: str, seconds: float) -> float:
    """CPU seconds of the server for each million deliveries, without a broker."""
    command = [str(program), "--subscribers", str(SUBSCRIBERS), "--size", str(size), "--window", str(window)]
    command += ["--method", method, "--seconds", str(seconds)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said)["cpu_seconds_per_million"]


def broker(binary: pathlib.Path | None, size: int, window: int, seconds: float) -> tuple[float, float]:
    """CPU seconds for each million deliveries, and messages in a send."""
    peer = all_peers(binary)["tidecast"]
    row = Row("", fanout(window, size=size))
    with tempfile.NamedTemporaryFile(prefix="tidecast-ceiling-") as output:
        said = pathlib.Path(output.name)
        with server(binary or TIDECAST, "tidecast", peer, row, said) as pids:
            report = load(binary or TIDECAST, peer, row, pids, seconds, None)
        totals = dict(re.findall(r"(\w+) (\d+)", said.read_text()))
    cost = report["server"]["cpu_seconds_per_million_deliveries"]
    return cost, int(totals["delivered"]) / int(totals["sends"])


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program = build()
    if options.tidecast is None:
        all_peers(None)["tidecast"].build()
    enter_network()
    enter_own_sys()
    sizes, windows = ([int(number) for number in words.split(",")] for words in (options.sizes, options.windows))
    rows = [(steered, size, window) for steered in (False, True) for size in sizes for window in windows]
    measured: dict[tuple, list[tuple[float, ...]]] = {row: [] for row in rows}
    for number in range(options.rounds):
        for steered, size, window in rows:
            steer(steered)
            by_send = limit(program, size, window, "send", options.seconds)
            by_ring = limit(program, size, window, "ring", options.seconds)
            cost, together = broker(options.tidecast, size, window, options.seconds)
            # Of a whole number of messages, as near as can be.
            whole = max(1, round(together))
            same = limit(program, size, whole, "ring", options.seconds) * whole / together
            measured[steered, size, window].append((by_send, by_ring, cost, together, same))
            print(f"round {number + 1} {'steered' if steered else 'plain':8} {size:6} B, {window:4} in flight:"
                  f" {by_send:.4f} {by_ring:.4f} {cost:.4f}, {together:.1f} in a send {same:.4f}", file=sys.stderr)
    for steered in (False, True):
        print(f"\n{'Steered' if steered else 'As it is'}:\n")
        print("| payload | in flight | send(2) | io_uring | tidecast | share | messages a send | io_uring, as many sends | share |")
        print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for size in sizes:
            for window in windows:
                columns = zip(*measured[steered, size, window], strict=True)
                by_send, by_ring, cost, together, same = (statistics.median(column) for column in columns)
                print(f"| {size:,} B | {window} | {by_send:.3g} | {by_ring:.3g} | {cost:.3g} | {by_ring / cost:.2f} |"
                      f" {together:.1f} | {same:.3g} | {same / cost:.2f} |")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
