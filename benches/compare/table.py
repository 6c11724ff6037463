"""Results as Markdown: for each group what matters in it, a line for each row and a column for each server."""

from collections.abc import Callable, Iterator

from peers import Peer
from results import Results
from rows import GROUPS, Group, Row

CANNOT = "–"
NOTHING, SATURATED, PARTLY, BUSY = "none", "saturated", "†", "‡"
# What a mark beside a number, or in its place, says.
MARKS = {
    NOTHING: "every round failed, see below, or nothing was done in time.",
    SATURATED: "it fell behind the rate.",
    PARTLY: "some of its rounds failed, see below, and do not count.",
    BUSY: "the generator was hardly ever idle, and may have been the limit.",
}

# What a peer has in a row, as a number and as it is shown; none where nothing was measured.
Number = Callable[[str, Row], float | None]
Text = Callable[[str, Row], str | None]


class Table:
    """The tables of some results."""

    def __init__(self, results: Results, peers: dict[str, Peer]) -> None:
        self.results = results
        self.peers = {name: peers[name] for name in results.about["peers"]}
        self.others = [name for name, peer in self.peers.items() if not peer.ours]
        self.marks: set[str] = set()

    def median(self, peer: str, row: Row, name: str) -> float | None:
        return self.results.median(peer, row.key, name)

    def per_cpu_second(self, peer: str, row: Row) -> float | None:
        """Millions of deliveries for a second of the server's processor time."""
        cost = self.median(peer, row, "cpu_seconds_per_million")
        return 1 / cost if cost else None

    def thousand_per_cpu_second(self, peer: str, row: Row) -> float | None:
        """The same in thousands."""
        millions = self.per_cpu_second(peer, row)
        return None if millions is None else 1e3 * millions

    def per_second(self, peer: str, row: Row) -> float | None:
        rate = self.median(peer, row, "per_second")
        return None if rate is None else rate / 1e6

    def latencies(self, *names: str) -> Text:
        """Percentiles in milliseconds; of a server that fell behind they say nothing."""

        def text(peer: str, row: Row) -> str | None:
            values = [self.median(peer, row, name) for name in names]
            if None in values:
                return None
            if self.median(peer, row, "saturated"):
                return SATURATED
            return " / ".join(significant(value / 1e3) for value in values)

        return text

    def cell(self, peer: str, row: Row, text: Text, *, of_generator: bool) -> str:
        measured = self.results.of(peer, row.key)
        if not measured:
            return CANNOT
        said = text(peer, row) or NOTHING
        marks = []
        good = [one for one in measured if "failed" not in one]
        if good and len(good) < len(measured):
            marks.append(PARTLY)
        if of_generator and 2 * sum(one["generator_saturated"] for one in good) > len(good):
            marks.append(BUSY)
        self.marks |= {said, *marks} & MARKS.keys()
        return "".join([said, *marks])

    def matrix(
        self,
        what: str,
        group: Group,
        text: Text,
        *,
        ratio: Number | None = None,
        less_is_better: bool = False,
        of_generator: bool = False,
    ) -> Iterator[str]:
        """One table, with how this broker compares with the best of the others where there is a `ratio` to have."""
        rows = [row for row in group.rows if any(self.results.of(peer, row.key) for peer in self.peers)]
        if not rows:
            return
        against = ["against the best other"] if ratio and "tidecast" in self.peers and self.others else []
        yield f"{what}:"
        yield ""
        yield "| " + " | ".join([group.label, *self.peers, *against]) + " |"
        yield "|---|" + "---:|" * (len(self.peers) + len(against))
        for row in rows:
            cells = [self.cell(peer, row, text, of_generator=of_generator) for peer in self.peers]
            if against:
                cells.append(self.against_best(row, ratio, less_is_better))
            yield "| " + " | ".join([row.label, *cells]) + " |"
        yield ""

    def against_best(self, row: Row, number: Number, less_is_better: bool) -> str:
        ours = number("tidecast", row)
        others = [value for peer in self.others if (value := number(peer, row)) is not None]
        if not ours or not others:
            return CANNOT
        return significant(min(others) / ours if less_is_better else ours / max(others))

    def group(self, name: str) -> Iterator[str]:
        group = GROUPS[name]
        done = {"ingest": "messages", "handshakes": "connections"}.get(name, "deliveries")
        bytes_each = self.number("resident_bytes_per_connection", 1)
        open_loop = self.latencies("p50", "p99", "p999")
        match name:
            case "idle" | "tls-idle":
                text = shown(bytes_each, "{:,.0f}")
                yield from self.matrix(
                    "Bytes of resident memory each", group, text, ratio=bytes_each, less_is_better=True
                )
            case "handshakes":
                each = self.thousand_per_cpu_second
                yield from self.matrix(
                    f"Thousand {done} per second of server processor time", group, shown(each), ratio=each
                )
                rate = shown(self.number("per_second", 1e3))
                yield from self.matrix(f"Thousand {done}/s", group, rate, of_generator=True)
                yield from self.matrix("p50 / p99 in ms", group, self.latencies("p50", "p99"), of_generator=True)
            case "rate" | "half":
                yield from self.matrix("p50 / p99 / p99.9 in ms", group, open_loop, of_generator=True)
                yield from self.matrix("Thousand deliveries/s", group, shown(self.number("per_second", 1e3), "{:,.0f}"))
                yield from self.matrix("Cores used by the server", group, shown(self.number("cores", 1), "{:.2f}"))
            case _:
                yield from self.matrix(
                    f"Million {done} per second of server processor time",
                    group,
                    shown(self.per_cpu_second),
                    ratio=self.per_cpu_second,
                )
                yield from self.matrix(
                    f"Million {done}/s",
                    group,
                    shown(self.per_second),
                    ratio=self.per_second if name == "cores" else None,
                    of_generator=True,
                )
                yield from self.matrix("p50 / p99 in ms", group, self.latencies("p50", "p99"), of_generator=True)
                yield from self.matrix("Resident MiB", group, shown(self.number("resident_bytes", 2**20), "{:,.0f}"))
                if name == "deflate":
                    octets = self.number("octets_per_delivery", 1)
                    yield from self.matrix("Octets of a delivery, framing included", group, shown(octets, "{:,.0f}"))

    def number(self, name: str, unit: float) -> Number:
        def number(peer: str, row: Row) -> float | None:
            value = self.median(peer, row, name)
            return None if value is None else value / unit

        return number

    def lines(self) -> Iterator[str]:
        about = self.results.about
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        rounds = max((one["round"] for one in self.results.measurements), default=0)
        yield (
            f"{about['date']}, Linux {about['kernel']}, {about['cpu']}, {about['cores']} cores, cubic; {versions}; "
            f"medians of {rounds} {'round' if rounds == 1 else 'rounds'} of {about['seconds']:g} s."
        )
        yield ""
        for name in about["groups"]:
            yield f"### {GROUPS[name].title}"
            yield ""
            yield from self.group(name)
        yield f"{CANNOT}: it cannot, or was not asked."
        for mark in sorted(self.marks):
            yield f"{mark}: {MARKS[mark]}"
        failures = {
            (one["peer"], one["key"], one["failed"]) for one in self.results.measurements if "failed" in one
        }
        for peer, key, reason in sorted(failures):
            yield f"- {peer}, {key}: {reason}"


def significant(value: float) -> str:
    """Three digits, or as many as the whole number has."""
    before = len(str(int(value)))
    return f"{value:,.{max(0, 3 - before)}f}" if value >= 1 else f"{value:.3g}"


def shown(number: Number, form: str | None = None) -> Text:
    def text(peer: str, row: Row) -> str | None:
        value = number(peer, row)
        if value is None:
            return None
        return form.format(value) if form else significant(value)

    return text


def markdown(results: Results, peers: dict[str, Peer]) -> str:
    return "\n".join(Table(results, peers).lines())
