"""Figures: samples with their median and spread, pairs taken in turn, and the row that a measurement becomes.

Owns how a number is judged: a ratio against a reference of the same run, or a bound. It measures nothing itself. Every
module of `rows` makes `Row`s of it; `table` shows them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

Relation = Literal["<=", ">="]


class Samples(msgspec.Struct, frozen=True):
    """What one contender took, in the order in which it was measured."""

    values: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


def in_turn(count: int, *contenders: Callable[[], float]) -> list[Samples]:
    """Samples of each contender. Every round asks all of them, and the next round another one first."""
    taken: list[list[float]] = [[] for _ in contenders]
    for number in range(count):
        for place in range(len(contenders)):
            which = (number + place) % len(contenders)
            taken[which].append(contenders[which]())
    return [Samples(values) for values in taken]


class Target(msgspec.Struct, frozen=True):
    relation: Relation
    limit: float
    unit: str = ""  # "" is a ratio

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.relation == "<=" else value >= self.limit


class Row(msgspec.Struct, frozen=True):
    """One line of the table. `judged` is what the target is about: the ratio, or the measured value itself.

    Without a target the line is there to be read: its reference and its ratio, where it has them, are no promise.
    """

    name: str
    unit: str
    measured: float
    spread: tuple[float, float] | None = None
    reference: float | None = None
    reference_spread: tuple[float, float] | None = None
    reference_name: str = ""
    samples: int = 1
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.reference is None else self.measured / self.reference

    @property
    def judged(self) -> float:
        return self.measured if self.ratio is None else self.ratio

    @property
    def holds(self) -> bool | None:
        """None where nothing was promised."""
        return None if self.target is None else self.target.holds(self.judged)


def against(
    name: str, unit: str, measured: Samples, reference: Samples, reference_name: str, target: Target | None
) -> Row:
    """The row of two contenders; the ratio is that of their medians."""
    return Row(
        name,
        unit,
        measured.median,
        measured.quartiles,
        reference.median,
        reference.quartiles,
        reference_name,
        len(measured.values),
        target,
    )


def told(name: str, unit: str, values: Sequence[float], target: Target | None = None) -> Row:
    """The row of a value without a reference."""
    samples = Samples(list(values))
    spread = samples.quartiles if len(values) > 1 else None
    return Row(name, unit, samples.median, spread, samples=len(values), target=target)
