"""What surfaces may ask of the engine: the one door for commands, reads and subscriptions.

Surfaces parse, authorise by scope, call one method here and render. Ownership is checked behind this door, on every
path. Answers of commands are JSON bytes, exactly as their receipt keeps them: the same key and content give the same
bytes. All methods raise `HoldfastError` with a code of `errors.STATUS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

from holdfast.wire.api import (
    AgentObject,
    EventObject,
    ItemObject,
    NewAnswer,
    NewMessage,
    NewThread,
    RequestObject,
    RunnerObject,
    RunObject,
    Snapshot,
    ThreadObject,
)

Scope = Literal["read", "operate", "admin"]


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `admin` sees everything."""

    owner: str
    scopes: frozenset[str]


class Text(msgspec.Struct, frozen=True):
    """The next piece of an open item's text; `offset` in characters. Not part of the log."""

    item: str
    offset: int
    text: str


class CaughtUp(msgspec.Struct, frozen=True):
    """From here on the stream is live. `version`: the head that was reached."""

    version: int


class Resync(msgspec.Struct, frozen=True):
    """The reader fell behind the bounded window: read on from the log after its last version."""

    version: int


FeedEvent = Snapshot | EventObject | Text | CaughtUp | Resync


class EnginePort(Protocol):
    """`key`: the caller's Idempotency-Key, or a fresh one that the surface made up."""

    async def create_thread(self, caller: Caller, key: str, body: NewThread) -> bytes:
        """{"thread": ...} and "run" where a message was given; both in one transaction."""
        ...

    async def send_message(self, caller: Caller, key: str, thread_id: str, body: NewMessage) -> bytes:
        """The run."""
        ...

    async def stop_run(self, caller: Caller, key: str, run_id: str) -> bytes:
        """The run, as it is right after the command; `run(..., wait=20)` tells the end."""
        ...

    async def stop_thread(self, caller: Caller, key: str, thread_id: str) -> bytes:
        """{"stopped": run id or null, "cancelled": [run ids], "thread": ...}."""
        ...

    async def release_queue(self, caller: Caller, key: str, thread_id: str) -> bytes:
        """The thread."""
        ...

    async def answer(self, caller: Caller, key: str, request_id: str, body: NewAnswer) -> bytes:
        """The request."""
        ...

    async def threads(
        self, caller: Caller, *, before: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> list[ThreadObject]: ...

    async def thread(self, caller: Caller, thread_id: str) -> dict[str, Any]:
        """{"thread", "runs", "requests", "version"}, from one moment."""
        ...

    async def snapshot(self, caller: Caller, thread_id: str, *, items: int = 100) -> Snapshot: ...

    async def items(
        self, caller: Caller, thread_id: str, *, before: str = "", limit: int = 100
    ) -> list[ItemObject]: ...

    async def run(self, caller: Caller, run_id: str, *, wait: float = 0.0) -> RunObject:
        """Waits up to `wait` (at most 60) seconds until the run ends, waits for a person, or is queued behind one
        that does."""
        ...

    async def requests(self, caller: Caller, *, thread_id: str = "") -> list[RequestObject]:
        """Those pending."""
        ...

    def follow(
        self, caller: Caller, thread_id: str, *, after: int | None
    ) -> AbstractAsyncContextManager[AsyncIterator[FeedEvent]]:
        """Events after `after`, then `CaughtUp`, then live with `Text`. None, or a version beyond the head: first a
        `Snapshot`. Open items' text so far comes as `Text` with offset 0 after `CaughtUp` when no snapshot was sent.
        """
        ...

    async def agents(self, caller: Caller) -> list[AgentObject]: ...

    async def runners(self, caller: Caller) -> list[RunnerObject]: ...

    async def transcript(self, caller: Caller, thread_id: str) -> AsyncIterator[bytes]:
        """The frames of the thread's sessions, both directions, as lines of a transcript file."""
        ...

    async def stop_agents(self) -> None:
        """End every session gently; their threads go on with the next message."""
        ...

    def ready(self) -> dict[str, Any]:
        """What readiness knows: {"ready": bool, "recovery": {...}, ...}. Never waits for an agent."""
        ...
