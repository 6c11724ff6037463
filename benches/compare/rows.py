"""What is measured: groups of rows, each row one load that every peer gets."""

import dataclasses

SUBSCRIBERS = 1000


@dataclasses.dataclass(frozen=True)
class Row:
    """A load, and the cores it is measured on."""

    label: str
    # The arguments of `tidecast bench`, without those about time and place.
    load: str
    # Connections that each message goes to.
    subscribers: int = SUBSCRIBERS
    # Messages a second in an open loop; none sends as fast as the window lets it.
    rate: float | None = None
    # At half the rate that the peer reached in the row of `HALF_OF`.
    half: bool = False
    # Cores and threads of the server.
    cores: int = 1
    # Server and generator share both cores, in place of one each.
    shared: bool = False
    # Over TLS.
    secure: bool = False

    @property
    def key(self) -> str:
        """Rows of several groups that measure the same have the same."""
        rate = f" --rate {self.rate:g}" if self.rate else " at half" if self.half else ""
        place = f", {self.cores} of shared cores" if self.shared else ""
        return self.load + rate + place + (", TLS" if self.secure else "")

    @property
    def scenario(self) -> str:
        return self.load.split()[0]

    @property
    def compressed(self) -> bool:
        return "--compression" in self.load


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows that belong in one table."""

    title: str
    # What the labels of its rows say.
    label: str
    rows: tuple[Row, ...]


def fanout(window: int | None = 32, *, subscribers: int = SUBSCRIBERS, size: int = 128) -> str:
    load = f"fanout --subscribers {subscribers} --size {size}"
    return load if window is None else f"{load} --window {window}"


def in_flight(window: int) -> str:
    return f"{window:,} in flight"


HALF_OF = Row(in_flight(32), fanout())

GROUPS = {
    "window": Group(
        "Messages in flight: 1,000 subscribers, 128 B",
        "in flight",
        tuple(Row(f"{window}", fanout(window)) for window in (1, 4, 32, 256)),
    ),
    "payload": Group(
        "Payloads: 1,000 subscribers",
        "payload",
        tuple(
            Row(f"{size:,} B, {in_flight(window)}", fanout(window, size=size))
            for size, window in ((16, 32), (128, 32), (1024, 32), (16384, 1), (16384, 4), (16384, 32))
        ),
    ),
    "subscribers": Group(
        "Subscribers: 128 B",
        "subscribers",
        tuple(
            Row(f"{count:,}, {in_flight(window)}", fanout(window, subscribers=count), subscribers=count)
            for window in (1, 32)
            for count in (10, 100, 1000)
        ),
    ),
    "topics": Group(
        "Topics: 500, each with one publisher and two subscribers, 128 B",
        "in flight of each publisher",
        tuple(
            Row(
                f"{window}",
                f"many-topics --topics 500 --publishers 1 --subscribers 2 --size 128 --window {window}",
                subscribers=2,
            )
            for window in (1, 8)
        ),
    ),
    "ingest": Group(
        "Ingest: messages of 128 B that nobody wants",
        "publishers",
        # What was taken in is known by WebSocket pings, where a protocol has none of its own, and of those a publisher
        # sends 800 a second: windows are so large that none is waited for.
        tuple(
            Row(
                f"{count}, {in_flight(window)} of each",
                f"ingest --publishers {count} --size 128 --window {window}",
                subscribers=0,
            )
            for count, window in ((1, 16384), (64, 1024))
        ),
    ),
    "deflate": Group(
        "permessage-deflate: 1,000 subscribers that all negotiated it, 1,024 B that deflate to half",
        "in flight",
        tuple(
            Row(f"{window}", fanout(window, size=1024) + " --compression permessage-deflate") for window in (1, 32)
        ),
    ),
    "idle": Group("Idle connections", "connections", (Row("10,000", "idle --connections 10000", subscribers=0),)),
    "tls": Group(
        "Fan-out over TLS 1.3: 1,000 subscribers",
        "payload",
        tuple(
            Row(f"{size:,} B, {in_flight(window)}", fanout(window, size=size), secure=True)
            for size, window in ((128, 1), (128, 32), (1024, 32), (16384, 4))
        ),
    ),
    "handshakes": Group(
        "Connections that are opened over TLS 1.3 and closed again: a certificate with an ECDSA key on P-256",
        "handshake",
        tuple(
            # Of tickets a client keeps eight: with more connections under way at a time, most would find none.
            Row(label, f"connect --window 4{flag}", subscribers=0, secure=True)
            for label, flag in (("full", ""), ("resumed", " --tls-resume"))
        ),
    ),
    "tls-idle": Group(
        "Idle connections over TLS 1.3",
        "connections",
        (Row("5,000", "idle --connections 5000", subscribers=0, secure=True),),
    ),
    "rate": Group(
        "Latency at a common rate: 128 B, an open loop",
        "subscribers",
        tuple(
            Row(f"{count:,}, {rate:,} messages/s", fanout(None, subscribers=count), subscribers=count, rate=rate)
            for count, rate in ((1000, 100), (100, 1000))
        ),
    ),
    "half": Group(
        "Latency at half of each one's own rate with 32 in flight: 1,000 subscribers, 128 B, an open loop",
        "",
        (Row("half", fanout(None), half=True),),
    ),
    "cores": Group(
        "Both cores, which the generator shares with its two threads: 1,000 subscribers, 128 B",
        "",
        tuple(
            Row(
                f"{in_flight(window)}, {cores} server {'thread' if cores == 1 else 'threads'}",
                fanout(window),
                cores=cores,
                shared=True,
            )
            for window in (1, 32)
            for cores in (1, 2)
        ),
    ),
}
