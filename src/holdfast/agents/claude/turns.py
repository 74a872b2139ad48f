"""Turns and prompts: which frames belong to which turn, whose prompt a turn answers, and when a turn is over.

Owns that part of the state; reads no frame and writes none. Called by the translator alone.

How a turn is known (all measured): a prompt with our uuid is told of as `command_lifecycle` queued, started,
completed; `init` opens every turn and names the prompts it answers; `result` ends it. A prompt that is started while
the root works is folded into the running turn. A turn that names no prompt was begun by the agent, for instance
because work in the background ended. Between two turns, subagents in the background may still work and ask: that is
shown as a turn of its own, which the next root turn takes over or a quiet moment ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from holdfast.agents.claude.state import Pending, State, Turn
from holdfast.core import reports
from holdfast.core.reports import Failure, Report

SETTLE_S = 5.0
"""How long after the last work in the background the agent has to wake up with a turn about it."""

TAKEN_KEPT = 20
"""How many prompts are remembered after they were taken up: a late record of their writing changes nothing."""


class Turns:
    """Appends to `said` what becomes known. `ask` reports a request that waits, in the open turn."""

    def __init__(self, state: State, said: list[Report], ask: Callable[[Pending], Report]) -> None:
        self._state = state
        self._said = said
        self._ask = ask

    @property
    def ref(self) -> str:
        """The open turn, "" if none is."""
        return self._state.turn.ref if self._state.turn else ""

    @property
    def root_is_open(self) -> bool:
        return self._state.turn is not None and self._state.turn.root

    def lifecycle(self, uuid: str, stage: str) -> None:
        state = self._state
        state.lifecycles = True
        if uuid not in state.prompts:
            return
        if stage == "queued":
            state.prompts[uuid] = "queued"
        elif stage == "started":
            self.take_up(uuid)
        elif stage in ("completed", "cancelled", "discarded"):
            self._gone(uuid, stage)

    def take_up(self, uuid: str) -> None:
        """The agent works on the prompt from here on: in the running turn, or in a new one."""
        self.seen(uuid)
        self._drop(uuid)
        if not self.root_is_open:
            self._open(uuid)

    def seen(self, uuid: str) -> None:
        if self._state.prompts.get(uuid) in ("written", "queued"):
            self._state.prompts[uuid] = "seen"
            self._say(reports.PromptSeen(uuid))

    def _drop(self, uuid: str) -> None:
        self._state.prompts.pop(uuid, None)
        self._state.taken = [*self._state.taken[1 - TAKEN_KEPT :], uuid]

    def _gone(self, uuid: str, stage: str) -> None:
        """A prompt ended without a turn: it was answered before (the agent knows its uuid), or it was dropped."""
        self.seen(uuid)
        self._drop(uuid)
        ref = self._next_ref()
        before = stage == "completed"
        text = (
            "The agent has answered this message before and does not answer it again."
            if before
            else "The agent dropped this message without working on it."
        )
        self._say(
            reports.TurnStarted(ref, uuid),
            reports.NoticeGiven("prompt_not_run", text, {"state": stage}, turn=ref),
            reports.TurnEnded(ref, "completed" if before else "interrupted"),
        )

    def announced(self, uuids: list[str]) -> None:
        """A turn is announced; `uuids` are the prompts that it answers, where this version says so."""
        if self.root_is_open:
            return
        self._state.announced = True
        if any(uuid in self._state.prompts for uuid in uuids):
            self.claim(uuids, certain=True)

    def claim(self, uuids: list[str], *, certain: bool) -> None:
        """Whose the announced turn is. Not `certain`: a replay of the prompt may yet tell."""
        ours = [uuid for uuid in uuids if uuid in self._state.prompts]
        for uuid in ours:
            self.take_up(uuid)
        if not ours and (certain or not self._state.prompts):
            self._take_over()

    def _take_over(self) -> None:
        """The root works without a prompt of ours: what went on in the background becomes part of its turn."""
        turn = self._state.turn
        if turn is None:
            self._open("")
        else:
            turn.root = True
        self._state.announced = False

    def of(self, parent: str | None) -> str:
        """The turn that work of the root (no parent) or of a subagent belongs to; opens one if need be."""
        if parent:
            return self.any_open()
        if not self.root_is_open:
            self._take_over()
        return self.ref

    def any_open(self) -> str:
        """The open turn, whoever works in it; one for work in the background if none is open."""
        if self._state.turn is None:
            self._open("", root=False)
        return self.ref

    def _open(self, prompt: str, *, root: bool = True) -> None:
        if self._state.turn:
            self.end("completed")
        ref = self._next_ref()
        self._state.turn = Turn(ref, prompt, root)
        self._state.announced = False
        self._say(reports.TurnStarted(ref, prompt))
        for request_id, pending in self._state.pending.items():
            if not pending.answering:
                # It outlived the turn it was reported in: a new reference, for the old one is withdrawn.
                pending.ref = f"{request_id}#{self.number()}"
                self._said.append(self._ask(pending))

    def _next_ref(self) -> str:
        return f"turn-{self.number()}"

    def number(self) -> int:
        self._state.count += 1
        return self._state.count

    def end(
        self,
        status: Literal["completed", "failed", "interrupted"],
        failure: Failure | None = None,
        usage: reports.Usage | None = None,
    ) -> None:
        state = self._state
        if state.turn is None:
            return
        self._said.extend(
            reports.RequestWithdrawn(pending.ref)
            for pending in state.pending.values()
            if not pending.answering
        )
        self._say(reports.TurnEnded(state.turn.ref, status, failure, usage))
        state.turn, state.announced, state.said_error = None, False, ""
        state.messages.pop("", None)
        if not state.tasks:
            state.messages.clear()
            state.tools.clear()

    def carry_on(self) -> None:
        """A run that ends expires what it asked; what the agent still waits for is asked again in a turn of its own."""
        if any(not pending.answering for pending in self._state.pending.values()):
            self._open("", root=False)

    def settle(self, at: float) -> None:
        """Ends a turn of background work of which nothing has come."""
        state = self._state
        if state.settle_at is None or at < state.settle_at:
            return
        state.settle_at = None
        if state.turn and not state.turn.root:
            self.end("interrupted" if state.turn.interrupted else "completed")

    def watch(self, at: float) -> None:
        """A turn of background work waits for a root turn to take it over, but not for long."""
        state = self._state
        if state.turn is None or state.turn.root or state.tasks or state.pending:
            state.settle_at = None
        elif state.turn.interrupted:
            state.settle_at = at
            self.settle(at)
        elif state.settle_at is None or self._said:
            state.settle_at = at + SETTLE_S

    def _say(self, *said: Report) -> None:
        self._said.extend(said)
