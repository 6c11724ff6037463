#!/usr/bin/env python3
"""Fan-out side by side: tidecast and its peers take turns at the same work, and the medians are printed.

    benches/compare/fanout.py [--rounds N] [--seconds S] [--subscribers N] [--size BYTES] [--windows 1,32,256]

The server runs on one core and the generator on the other, both in a network namespace of their own whose loopback
uses cubic: the default of some systems, bbr, paces, and a paced loopback measures the pacing. Needs root for the
namespace, two cores, Node.js with npm for Bun, and a release build, which it makes.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TIDECAST = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/tidecast"
BUN = HERE / "node_modules/bun/bin/bun.exe"
SERVER_CORE, GENERATOR_CORE = "0", "1"
PORT = 18080

PEERS = {
    "tidecast": [str(TIDECAST), "serve", "--workers", "1", "--listen", f"127.0.0.1:{PORT}"],
    "bun": [str(BUN), str(HERE / "bun.js"), str(PORT)],
}


def sh(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, check=True, **options)


@contextlib.contextmanager
def namespace():
    """A network namespace with a loopback that uses cubic; gives the command that runs something in it."""
    name = f"tidecast-compare-{os.getpid()}"
    sh("ip", "netns", "add", name)
    try:
        sh("ip", "-n", name, "link", "set", "lo", "up")
        for prefix in ("127.0.0.0/8", "127.0.0.1"):
            sh("ip", "-n", name, "route", "replace", "local", prefix, "dev", "lo", "table", "local", "proto", "kernel",
               "scope", "host", "src", "127.0.0.1", "congctl", "cubic")
        yield ["ip", "netns", "exec", name]
    finally:
        sh("ip", "netns", "del", name)


@contextlib.contextmanager
def server(name: str, inside: list[str]):
    """Runs a peer on its core; gives its pid."""
    process = subprocess.Popen([*inside, "taskset", "-c", SERVER_CORE, *PEERS[name]], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("listening on"):
                break
        else:
            sys.exit(f"{name} did not start")
        # `ip netns exec` and `taskset` replace themselves by what they run: the pid is the server's.
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=15)


def measure(name: str, inside: list[str], window: int, options: argparse.Namespace) -> dict:
    with server(name, inside) as pid:
        command = [
            *inside, str(TIDECAST), "bench", "fanout", "--json", "--core", GENERATOR_CORE,
            "--url", f"ws://127.0.0.1:{PORT}", "--server-pid", str(pid), "--duration", f"{options.seconds}s",
            "--subscribers", str(options.subscribers), "--size", str(options.size), "--window", str(window),
        ]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
        return json.loads(result.stdout)


def summary(results: list[dict]) -> dict:
    def median(value):
        return statistics.median(value(result) for result in results)

    per_second = median(lambda result: result["deliveries_per_second"])
    cost = median(lambda result: result["server"]["cpu_seconds_per_million_deliveries"])
    return {
        "per_second": per_second,
        "cost": cost,
        "per_cpu_second": 1e6 / cost,
        "resident": median(lambda result: result["server"]["resident_bytes"]),
        "p50": median(lambda result: result["latency_microseconds"]["p50"]),
        "p99": median(lambda result: result["latency_microseconds"]["p99"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--windows", default="1,32,256", help="messages in flight, one row each")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the generator")
    sh("cargo", "build", "--release", "--locked", cwd=ROOT)
    if not BUN.exists():
        sh("npm", "ci", "--silent", cwd=HERE)
    windows = [int(window) for window in options.windows.split(",")]
    results: dict[tuple[str, int], list[dict]] = {(name, window): [] for name in PEERS for window in windows}
    with namespace() as inside:
        for number in range(options.rounds):
            for window in windows:
                # In turns, and every other round the other way about: what disturbs one disturbs all alike.
                for name in list(PEERS)[:: 1 if number % 2 == 0 else -1]:
                    result = measure(name, inside, window, options)
                    results[name, window].append(result)
                    print(f"round {number + 1} window {window:4} {name:10}"
                          f" {result['deliveries_per_second'] / 1e6:8.3f} M deliveries/s"
                          f" {result['server']['cpu_seconds_per_million_deliveries']:8.4f} CPU s per million",
                          file=sys.stderr)
    bun = subprocess.run([BUN, "--version"], capture_output=True, text=True).stdout.strip()
    print(f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}, {os.cpu_count()} cores, cubic, Bun {bun};"
          f" {options.subscribers} subscribers, 1 publisher, {options.size} B, medians of {options.rounds} rounds of"
          f" {options.seconds:g} s\n")
    print("| in flight | server | M deliveries/s | M per server CPU s | against bun | p50 ms | p99 ms | resident MiB |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for window in windows:
        rows = {name: summary(results[name, window]) for name in PEERS}
        for name, row in rows.items():
            ratio = row["per_cpu_second"] / rows["bun"]["per_cpu_second"]
            print(f"| {window} | {name} | {row['per_second'] / 1e6:.3f} | {row['per_cpu_second'] / 1e6:.2f} | {ratio:.2f} |"
                  f" {row['p50'] / 1e3:.2f} | {row['p99'] / 1e3:.2f} | {row['resident'] / 2**20:.1f} |")


if __name__ == "__main__":
    main()
