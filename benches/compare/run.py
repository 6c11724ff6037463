#!/usr/bin/env python3
"""tidecast and its peers side by side: they take turns at the same loads, and the medians are printed as Markdown.

    benches/compare/run.py                                      everything, in under three quarters of an hour
    benches/compare/run.py --rows window,deflate --peers tidecast,bun --rounds 5
    benches/compare/run.py --json out.json                      keeps every measurement as soon as it is there
    benches/compare/run.py --resume out.json                    goes on where that was interrupted
    benches/compare/run.py --table out.json                     prints the tables again
    benches/compare/run.py --smoke                              whether it works at all, for CI

One generator, `tidecast bench`, makes the load for every server. The server has core 0 and the generator core 1, in
a network namespace of their own whose loopback uses cubic. Every server is started anew for every measurement; servers
take turns at the same row, and every other round the other way about.

Needs Linux, two cores, root (for the namespace), Cargo, iproute2 and util-linux. Peers that are missing are installed,
with apt-get and npm, unless `--peers` leaves them out. On a machine that has other work too,
`nice -n -15 benches/compare/run.py` puts the server and the generator before it.
"""

import argparse
import hashlib
import os
import pathlib
import platform
import signal
import sys
import time

import peers as all_of
from measure import Failed, enter_network, measure
from peers import Peer
from results import Results
from rows import GROUPS, HALF_OF, Row
from table import markdown


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times that each is measured [default: 3]")
    parser.add_argument("--seconds", type=float, default=3, metavar="S", help="of each measurement [default: 3]")
    parser.add_argument("--rows", metavar="LIST", help=f"groups of rows [default: {','.join(GROUPS)}]")
    parser.add_argument("--peers", metavar="LIST", help="servers [default: all of them]")
    parser.add_argument("--tidecast", type=pathlib.Path, metavar="FILE", help="the binary; built if not given")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where to write every measurement")
    files.add_argument("--resume", type=pathlib.Path, metavar="FILE", help="a file of --json, to be gone on with")
    files.add_argument("--table", type=pathlib.Path, metavar="FILE", help="a file of --json, to be printed and no more")
    parser.add_argument(
        "--smoke", action="store_true", help="0.3 s of each server that is there; what fails fails the command"
    )
    return parser.parse_args()


def chosen(what: str, words: str | None, known: list[str]) -> list[str]:
    """Some of the known, in their order; all of them if none are named."""
    if words is None:
        return known
    names = words.split(",")
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"{what} {', '.join(unknown)} unknown: there are {', '.join(known)}")
    return [name for name in known if name in names]


def rows_of(groups: list[str]) -> list[Row]:
    """The rows of the groups, each measurement once, and before a half what it is half of."""
    rows: dict[str, Row] = {}
    for name in groups:
        for row in GROUPS[name].rows:
            if row.half:
                rows.setdefault(HALF_OF.key, HALF_OF)
            rows.setdefault(row.key, row)
    return list(rows.values())


def can(peer: Peer, row: Row) -> bool:
    return (
        (peer.deflates or not row.compressed)
        and (peer.secures or not row.secure)
        and (peer.threads or row.cores == 1)
    )


def cpu_name() -> str:
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def about(names: list[str], groups: list[str], known: dict[str, Peer], binary: pathlib.Path, seconds: float) -> dict:
    """What the numbers of this run mean nothing without."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "seconds": seconds,
        "peers": names,
        "groups": groups,
        "versions": {name: known[name].version() for name in names},
        "binary": hashlib.sha256(binary.read_bytes()).hexdigest()[:16],
    }


def resumed(path: pathlib.Path, now: dict) -> Results:
    """What was measured before, if it may be gone on with."""
    results = Results.load(path)
    then = results.about
    before = {name: then[name] for name in ("kernel", "cpu", "seconds", "binary")} | then["versions"]
    for name, value in (now | now["versions"]).items():
        if before.get(name, value) != value:
            sys.exit(f"{path} cannot be gone on with: {name} was {before[name]}, and is {value}")
    then["versions"] |= now["versions"]
    for name, known in (("peers", list(all_of.all_peers(None))), ("groups", list(GROUPS))):
        then[name] = [one for one in known if one in then[name] + now[name]]
    return results


def outcome_of(binary: pathlib.Path, name: str, peer: Peer, row: Row, results: Results, seconds: float) -> dict:
    """The numbers of a measurement, or why there are none; one that fails has a second try."""
    rate = row.rate
    if row.half:
        maximum = results.median(name, HALF_OF.key, "published_per_second")
        if maximum is None:
            return {"failed": f"there is no rate to be half of: {HALF_OF.key} failed"}
        rate = maximum / 2
    for attempt in (1, 2):
        try:
            return measure(binary, name, peer, row, seconds=seconds, rate=rate) | {"attempts": attempt}
        except Failed as failure:
            reason = str(failure)
            print(f"{name}, {row.key}: {reason}", file=sys.stderr)
    return {"failed": reason}


def show(outcome: dict) -> str:
    if "failed" in outcome:
        return "failed"
    if "resident_bytes_per_connection" in outcome:
        return f"{outcome['resident_bytes_per_connection']:10,.0f} bytes each"
    return (
        f"{outcome['per_second'] / 1e6:8.3f} M/s {1 / max(outcome['cpu_seconds_per_million'], 1e-6):8.3f} M per CPU s"
        f"  p99 {outcome.get('p99', 0) / 1e3:8.2f} ms"
    )


def main() -> None:
    options = arguments()
    known = all_of.all_peers(options.tidecast)
    if options.table:
        print(markdown(Results.load(options.table), known))
        return
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the server, one for the generator")
    # So that what was started is stopped, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = chosen("peers", options.peers, list(known))
    groups = chosen("rows", options.rows, list(GROUPS))
    rows, rounds, seconds = rows_of(groups), options.rounds, options.seconds
    if options.smoke:
        names = [name for name in names if known[name].is_there()]
        groups, rows, rounds, seconds = ["window"], [HALF_OF], 1, 0.3
    for name in names:
        if not known[name].is_there():
            known[name].install()
    for name in {"tidecast", *names}:
        known[name].build()
    binary = options.tidecast or all_of.TIDECAST
    now = about(names, groups, known, binary, seconds)
    results = resumed(options.resume, now) if options.resume else Results(now, options.json)
    enter_network()

    turns = [
        (number, row, name)
        for number in range(1, rounds + 1)
        for row in rows
        # In turns, and every other round the other way about: what disturbs one disturbs all alike.
        for name in names[:: 1 if number % 2 else -1]
        if can(known[name], row)
    ]
    for count, (number, row, name) in enumerate(turns, 1):
        if results.has(number, name, row.key):
            continue
        outcome = outcome_of(binary, name, known[name], row, results, seconds)
        results.add(number, name, row.key, outcome)
        print(f"{count:4} of {len(turns)}  round {number}  {row.key:75} {name:14} {show(outcome)}", file=sys.stderr)
    print(markdown(results, known))
    if options.smoke and any("failed" in one for one in results.measurements):
        sys.exit("what was tried does not work")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
