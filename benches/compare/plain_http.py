#!/usr/bin/env python3
"""Without WebSockets: what a POST and a server-sent event take, here and with nginx and nchan.

    benches/compare/plain_http.py [--rounds N] [--seconds S] [--subscribers N] [--tidecast FILE]

Messages of 128 octets are posted on connections that stay, one after the other on each or several at once (pipelined), to a
topic that nobody listens to; and to one that many listen to as server-sent events, each batch once all have the one before.
Prints processor time of the server, and how much there was in a second.

Server and generator have a core each, in a network of their own whose loopback uses cubic. Needs root. On a machine that
has other work too, `nice -n -15` puts them before it.
"""

import argparse
import contextlib
import os
import pathlib
import selectors
import signal
import socket
import statistics
import sys
import time

from measure import GENERATOR_CORE, Failed, enter_network, server
from peers import TIDECAST, all_peers
from rows import Row

PEERS = ("tidecast", "tidecast-epoll", "nchan")
# In each message once, and in nothing else that a server says.
MARK = b"~"
BODY = MARK + b"x" * 127
# What subscribers hear before.
FIRST = b"!" * 128
# Publishers and what each has under way; or messages under way to subscribers.
POSTS = ((64, 1), (8, 16))
EVENTS = (1, 32)
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE = 30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times that each is measured [default: 3]")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="of each measurement [default: 2]")
    parser.add_argument("--subscribers", type=int, default=1000, metavar="N", help="of events [default: 1000]")
    parser.add_argument("--tidecast", type=pathlib.Path, metavar="FILE", help="the binary; built if not given")
    return parser.parse_args()


class Streams:
    """Connections that are read as soon as something comes, in which a mark is counted."""

    def __init__(self, port: int, count: int, mark: bytes) -> None:
        self.mark, self.seen = mark, 0
        self.selector = selectors.DefaultSelector()
        self.sockets = []
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), DEADLINE)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(one, selectors.EVENT_READ)
            self.sockets.append(one)

    def read(self) -> list[tuple[socket.socket, int]]:
        """How many marks came, and where."""
        found = []
        for key, _ in self.selector.select(DEADLINE):
            octets = key.fileobj.recv(1 << 18)
            if not octets:
                raise Failed("the server has closed a connection")
            if count := octets.count(self.mark):
                found.append((key.fileobj, count))
        if not found and not self.selector.select(0):
            raise Failed("nothing comes any more")
        return found

    def until(self, count: int) -> None:
        """Reads until so many more have come in all."""
        self.seen -= count
        while self.seen < 0:
            self.seen += sum(number for _, number in self.read())

    def close(self) -> None:
        for one in self.sockets:
            one.close()
        self.selector.close()


def post(name: str, topic: str, body: bytes = BODY) -> bytes:
    where = f"/t/{topic}?mode=pub" if name == "nchan" else f"/t/{topic}"
    head = f"POST {where} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def processor_time(pids: list[int]) -> float:
    """What they have used so far, in seconds."""
    total = 0
    for pid in pids:
        # Behind the name, which is in parentheses.
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def timed(pids: list[int], seconds: float, step) -> tuple[float, float]:
    """Repeats a step that tells how much it has done: processor seconds for each million, and how much in a second."""
    step()
    begun, used, done = time.monotonic(), processor_time(pids), 0
    while (elapsed := time.monotonic() - begun) < seconds:
        done += step()
    return (processor_time(pids) - used) / done * 1e6, done / elapsed


def posts(name: str, port: int, pids: list[int], publishers: int, window: int, seconds: float) -> tuple[float, float]:
    request = post(name, "nobody")
    # An answer begins with that, whatever its status.
    with contextlib.closing(Streams(port, publishers, b"HTTP/1.1 20")) as streams:
        for one in streams.sockets:
            one.sendall(request * window)

        def step() -> int:
            answered = streams.read()
            for one, count in answered:
                one.sendall(request * count)
            return sum(count for _, count in answered)

        return timed(pids, seconds, step)


def events(name: str, port: int, pids: list[int], subscribers: int, window: int, seconds: float) -> tuple[float, float]:
    request = post(name, "news")
    with (
        contextlib.closing(Streams(port, subscribers, MARK)) as streams,
        contextlib.closing(Streams(port, 1, b"HTTP/1.1 20")) as publisher,
    ):
        for one in streams.sockets:
            one.sendall(b"GET /t/news HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        # One that has its answer may not be subscribed yet.
        waiting, deadline = set(streams.sockets), time.monotonic() + DEADLINE
        while waiting:
            if time.monotonic() > deadline:
                raise Failed("not all who subscribe hear something")
            publisher.sockets[0].sendall(post(name, "news", FIRST))
            publisher.until(1)
            for key, _ in streams.selector.select(0.1):
                if FIRST in key.fileobj.recv(1 << 18):
                    waiting.discard(key.fileobj)

        def step() -> int:
            publisher.sockets[0].sendall(request * window)
            streams.until(window * subscribers)
            publisher.until(window)
            return window * subscribers

        return timed(pids, seconds, step)


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peers = {name: peer for name, peer in all_peers(options.tidecast).items() if name in PEERS}
    for peer in peers.values():
        if not peer.is_there():
            peer.install()
        peer.build()
    enter_network()
    os.sched_setaffinity(0, {int(GENERATOR_CORE)})
    rows = {f"POST, {publishers} connections, {window} in flight on each": (posts, publishers, window) for publishers, window in POSTS}
    rows |= {f"events, {options.subscribers:,} subscribers, {window} in flight": (events, options.subscribers, window) for window in EVENTS}
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    place = Row("", "http")
    for number in range(options.rounds):
        for label, (load, count, window) in rows.items():
            # Each begins once.
            turn = list(peers)[number % len(peers) :] + list(peers)[: number % len(peers)]
            for name in turn:
                peer = peers[name]
                with server(options.tidecast or TIDECAST, name, peer, place) as pids:
                    result = load(name, peer.port, pids, count, window, options.seconds)
                measured.setdefault((label, name), []).append(result)
                print(f"round {number + 1}: {label}, {name}: {result[0]:.3f} s a million, {result[1]:,.0f}/s", file=sys.stderr)
    print(f"| CPU seconds of the server per million | {' | '.join(peers)} | nchan / tidecast |")
    print("|---|" + "---:|" * (len(peers) + 1))
    for label in rows:
        cost = {name: statistics.median(cost for cost, _ in measured[label, name]) for name in peers}
        columns = " | ".join(f"{cost[name]:.3g}" for name in peers)
        # Of a very short measurement the kernel may have seen nothing.
        ratio = f"{cost['nchan'] / cost['tidecast']:.2f}" if cost["tidecast"] else "–"
        print(f"| {label} | {columns} | {ratio} |")
    print(f"\n| thousand a second | {' | '.join(peers)} |\n|---|" + "---:|" * len(peers))
    for label in rows:
        rates = " | ".join(f"{statistics.median(rate for _, rate in measured[label, name]) / 1e3:,.3g}" for name in peers)
        print(f"| {label} | {rates} |")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
