"""given(what happened before).when(what happens now).then(what it leads to): stories about one thread.

Commands are plain values (see `words`); a list is told in its order. The clock begins at 1000 and moves with `later`.
Every step is checked by `laws`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core.deciding import Context, Decided
from holdfast.core.policies import Limits
from holdfast.core.state import RunState, ThreadState
from holdfast.errors import Rejected
from tests.core import laws
from tests.core import words as w

Told = c.Command | float | Iterable["Told"]
"""A command, seconds that pass, or several of these."""

START = 1000.0


class Expected:
    """An event of a type, whose named fields have the given values."""

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.kind, self.fields = kind, fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, e.Event):
            return NotImplemented
        return e.type_of(other) == self.kind and all(getattr(other, k) == v for k, v in self.fields.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{k}={v!r}' for k, v in self.fields.items())})"


def event(kind: str, /, **fields: Any) -> Expected:
    return Expected(kind, fields)


class Story:
    """A thread and its clock, and what has happened since the last `when`."""

    def __init__(self, limits: Limits, lanes: Mapping[str, str]) -> None:
        self.state = ThreadState()
        self.limits, self.lanes = limits, lanes
        self.now = START
        self.log: list[e.Event] = []
        self.effects: list[fx.Effect] = []
        self.pieces: list[tuple[str, str]] = []
        self.pairs: list[laws.Pair] = []

    def tell(self, told: Told) -> None:
        if isinstance(told, int | float):
            self.now += told
        elif isinstance(told, c.Command):
            self._do(told)
        else:
            for one in told:
                self.tell(one)

    def _do(self, command: c.Command) -> Decided:
        decided = laws.step(self.state, command, Context(self.now, self.limits, self.lanes))
        self.pairs += laws.walked(self.state, decided.events, self.now)
        self.state = decided.state
        self.log += decided.events
        self.effects += decided.effects
        self.pieces += [(piece.item_id, piece.text) for piece in decided.pieces]
        return decided

    def run(self, n: int) -> RunState:
        return self.state.runs[w.run_id(n)]


class Given:
    """What was before."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def when(self, *told: Told) -> Outcome:
        story = self._story
        story.log, story.effects, story.pieces = [], [], []
        story.tell(told)
        return Outcome(story)

    def refuses(self, command: c.Command, code: str, words: str = "") -> Given:
        """The command is refused with the code and the words, and can be tried again."""
        with pytest.raises(Rejected) as refusal:
            self._story.tell(command)
        assert refusal.value.code == code, refusal.value.detail
        assert words in refusal.value.detail, refusal.value.detail
        return self

    def deadlines(self, last_frame_at: float = 0.0) -> dict[str, float]:
        """What -> seconds from the beginning."""
        story = self._story
        return {up.what: at - START for at, up in laws.due(story.state, story.limits, last_frame_at)}

    @property
    def state(self) -> ThreadState:
        return self._story.state

    @property
    def pairs(self) -> list[laws.Pair]:
        return self._story.pairs

    def run(self, n: int) -> RunState:
        return self._story.run(n)


class Outcome(Given):
    """What it led to."""

    def then(self, *expected: Expected | e.Event | str) -> Outcome:
        """Exactly these events, in this order. A text stands for an event of that type."""
        log = self._story.log
        assert len(log) == len(expected), f"expected {len(expected)} events: {shown(log)}"
        for one, found in zip(expected, log, strict=True):
            matches = e.type_of(found) == one if isinstance(one, str) else one == found
            assert matches, f"{one!r} is not {found!r}, of {shown(log)}"
        return self

    def then_also(self, *expected: Expected) -> Outcome:
        """These among others."""
        for one in expected:
            assert any(one == found for found in self._story.log), (
                f"{one!r} is not in {shown(self._story.log)}"
            )
        return self

    def then_never(self, *kinds: str) -> Outcome:
        found = {e.type_of(event) for event in self._story.log} & set(kinds)
        assert not found, f"{found} happened: {shown(self._story.log)}"
        return self

    def then_nothing(self) -> Outcome:
        return self.then()

    def asks_for(self, *effects: fx.Effect) -> Outcome:
        """Exactly these effects."""
        assert self._story.effects == list(effects)
        return self

    @property
    def events(self) -> Sequence[e.Event]:
        return self._story.log

    @property
    def pieces(self) -> list[tuple[str, str]]:
        return self._story.pieces

    def only(self, kind: str) -> Any:
        """The one event of that type."""
        found = [event for event in self._story.log if e.type_of(event) == kind]
        assert len(found) == 1, f"{len(found)} of {kind}: {shown(self._story.log)}"
        return found[0]


def shown(events: Iterable[e.Event]) -> str:
    return "\n  " + "\n  ".join(map(repr, events))


def given(*told: Told, limits: Limits | None = None, lanes: Mapping[str, str] | None = None) -> Given:
    story = Story(limits or Limits(), lanes or {})
    story.tell(told)
    return Given(story)
