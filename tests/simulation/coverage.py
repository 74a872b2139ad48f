"""What all seeds of a run have reached together, collected through files: seeds may run in several processes.

Each part of the seeds leaves a file; whoever finds that it was the last one judges the whole.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import msgspec

from tests.simulation.plan import RUNNER_POINTS, SERVER_POINTS
from tests.simulation.world import Outcome


class Part(msgspec.Struct):
    """What some of the seeds did."""

    seeds: int = 0
    seconds: float = 0.0
    virtual_s: float = 0.0
    passed: dict[str, int] = {}
    struck: dict[str, int] = {}
    counts: dict[str, int] = {}

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        self._sum(outcome.passed, outcome.struck, outcome.counts)

    def join(self, part: Part) -> None:
        self.seeds += part.seeds
        self.seconds += part.seconds
        self.virtual_s += part.virtual_s
        self._sum(part.passed, part.struck, part.counts)

    def _sum(self, passed: dict[str, int], struck: dict[str, int], counts: dict[str, int]) -> None:
        self.passed = dict(Counter(self.passed) + Counter(passed))
        self.struck = dict(Counter(self.struck) + Counter(struck))
        self.counts = dict(Counter(self.counts) + Counter(counts))

    def missed(self) -> list[str]:
        """Declared fault points that were never passed, or at which nothing ever crashed."""
        points = (*SERVER_POINTS, *RUNNER_POINTS)
        never = [f"{point} was never reached" for point in points if not self.passed.get(point)]
        return never + [
            f"nothing crashed at {point}"
            for point in points
            if self.passed.get(point) and not self.struck.get(point)
        ]

    def summary(self) -> str:
        lines = [
            f"{self.seeds} seeds, {self.virtual_s / 3600:.1f} simulated hours in {self.seconds:.0f} s of work",
            *[
                f"{point:<28} passed {self.passed.get(point, 0):>8}   crashed at {self.struck.get(point, 0):>5}"
                for point in (*SERVER_POINTS, *RUNNER_POINTS)
            ],
            *[f"{name:<40} {count:>8}" for name, count in sorted(self.counts.items())],
        ]
        return "\n".join(lines)


class Collection:
    """The files of one run in `folder`, which is made by the first part and removed by the last."""

    def __init__(self, folder: Path, parts: int) -> None:
        self._folder = folder
        self._parts = parts

    def add(self, number: int, part: Part) -> Part | None:
        """All parts together, if this was the last one of them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        whole = self._folder / f"{number}.json"
        unfinished = self._folder / f"{number}.tmp"
        unfinished.write_bytes(msgspec.json.encode(part))
        unfinished.rename(whole)
        files = list(self._folder.glob("*.json"))
        if len(files) < self._parts:
            return None
        together = Part()
        for file in files:
            together.join(msgspec.json.decode(file.read_bytes(), type=Part))
        shutil.rmtree(self._folder, ignore_errors=True)
        return together
