"""What was measured, in a file that is whole after every measurement."""

import json
import os
import pathlib
import statistics


class Results:
    """Measurements of peers and rows, round by round.

    `about` says what numbers mean nothing without: they go on only with what has the same.
    """

    def __init__(self, about: dict, path: pathlib.Path | None) -> None:
        self.about = about
        self.path = path
        self.measurements: list[dict] = []

    @classmethod
    def load(cls, path: pathlib.Path) -> "Results":
        document = json.loads(path.read_text())
        results = cls(document["about"], path)
        results.measurements = document["measurements"]
        return results

    def add(self, number: int, peer: str, key: str, outcome: dict) -> None:
        self.measurements.append({"round": number, "peer": peer, "key": key, **outcome})
        if self.path is None:
            return
        # Whoever reads it, or interrupts this, finds one whole document or the other.
        draft = self.path.with_name(self.path.name + ".part")
        draft.write_text(json.dumps({"about": self.about, "measurements": self.measurements}, indent=1) + "\n")
        os.replace(draft, self.path)

    def has(self, number: int, peer: str, key: str) -> bool:
        return any((one["round"], one["peer"], one["key"]) == (number, peer, key) for one in self.measurements)

    def of(self, peer: str, key: str) -> list[dict]:
        """All measurements of a row, those that failed as well."""
        return [one for one in self.measurements if (one["peer"], one["key"]) == (peer, key)]

    def median(self, peer: str, key: str, name: str) -> float | None:
        """The median of those that have it, if there are any."""
        values = [one[name] for one in self.of(peer, key) if name in one]
        return statistics.median(values) if values else None
