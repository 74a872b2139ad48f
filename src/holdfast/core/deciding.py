"""The working copy of one decision: what it has emitted so far, and the thread's state after that.

Every noun's rules (`runs`, `sessions`, `items`, `requests`) write through it, so that a rule always sees the outcome
of the one before. Made by `decider.decide` alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from holdfast.core import effects as fx
from holdfast.core.events import Event
from holdfast.core.evolve import evolve
from holdfast.core.policies import Limits
from holdfast.core.reactions import react
from holdfast.core.state import ThreadState


class Context(msgspec.Struct, frozen=True):
    """What a decision may know of the world. `now`: unix seconds. `lanes`: the agent's best lane per request kind."""

    now: float
    limits: Limits = Limits()
    lanes: Mapping[str, str] = {}


class Piece(msgspec.Struct, frozen=True):
    """The next piece of an open item's text: a draft, not an event."""

    item_id: str
    text: str


class Decided(msgspec.Struct):
    """The outcome: events in order, the state after them, what must be done next, and pieces of text in flight.

    `pieces` of an item come before its completion in `events`. The engine puts what an item's pieces amount to into
    an `item.completed` that has no text of its own: the core never holds text.
    """

    state: ThreadState
    events: list[Event]
    effects: list[fx.Effect]
    pieces: list[Piece]


class Deciding:
    """Owns its state: nobody else reads or writes it while a decision runs."""

    def __init__(self, state: ThreadState, context: Context) -> None:
        self.state = state
        self.context = context
        self.now = context.now
        self.limits = context.limits
        self.events: list[Event] = []
        self.pieces: list[Piece] = []
        self._effects: dict[str, fx.Effect] = {}

    def emit(self, event: Event) -> None:
        """Apply the event to the working state and note its effects."""
        evolve(self.state, event, self.now)
        self.events.append(event)
        for effect in react(self.state, event):
            self._effects[fx.identity(effect)] = effect

    def outcome(self) -> Decided:
        alive = self.state.generation if self._session_lives() else 0
        effects = [x for x in self._effects.values() if fx.bound_to(x) in (0, alive)]
        return Decided(self.state, self.events, effects, self.pieces)

    def _session_lives(self) -> bool:
        return self.state.session is not None and self.state.session.stage != "closed"
