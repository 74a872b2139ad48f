"""The event store port: what a store promises, whatever database is behind it.

A commit is one transaction for ONE stream: receipt, events, views, state snapshot, translator state with its frame
number, drafts, writes and effects, all or nothing. The store never decides anything and never performs an effect.
Called by the engine alone (writes) and by surfaces through the engine (reads). `tests/contracts/` is the suite that
every implementation passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from holdfast.core.events import Event
from holdfast.errors import HoldfastError
from holdfast.wire.api import EventObject, ItemObject, RequestObject, RunObject, Snapshot, ThreadObject


class StoreConflict(HoldfastError):
    """The stream is not at the expected version: somebody else wrote. The caller reloads and decides again."""


class StoreFull(HoldfastError):
    """The database cannot take more (disk full). Nothing of the commit happened."""


class StoreBroken(HoldfastError):
    """The database cannot be opened or read; the text says why and what to do."""


class Receipt(msgspec.Struct, frozen=True):
    """Outcome of a command, kept for 7 days. `code` "" means accepted; otherwise the stable code of its refusal.

    `result` names the object whose JSON, as it is at the end of this commit, becomes the answer for ever; with
    `around` it stands under the name of its kind beside those fields.
    """

    owner: str
    command_id: str
    content_hash: str
    code: str = ""
    detail: str = ""
    result: Literal["", "thread", "run", "request", "thread_and_run"] = ""
    result_id: str = ""
    around: dict[str, Any] | None = None


class StoredReceipt(msgspec.Struct, frozen=True):
    content_hash: str
    code: str
    detail: str
    answer: bytes  # JSON, b"" where there is none


class Effect(msgspec.Struct, frozen=True):
    """What must be done after the commit. `generation` > 0: bound to that session generation, and dies with it."""

    id: str
    kind: str
    data: bytes
    generation: int = 0


class SessionRow(msgspec.Struct, frozen=True):
    """A session as the engine needs it to go on: how far its journal is committed, and the translator's state.

    `launch` is the translator's context as JSON, written once. `open` False: ended; kept for replay.
    """

    session: str
    generation: int
    kind: str
    runner: str
    translator_version: int
    translator_state: bytes
    frame_no: int
    launch: bytes
    open: bool = True


class WriteRow(msgspec.Struct, frozen=True):
    """A frame on its way to the agent: sent again after a restart until the runner's journal has taken it on."""

    session: str
    id: str
    data: bytes


class Draft(msgspec.Struct, frozen=True):
    """A piece of an open item's text; `offset` in characters."""

    item_id: str
    offset: int
    text: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction. `expected` is the stream's version before it (0: the stream does not exist yet).

    `at` is unix seconds: the events' time. Drafts of an item go when its `item.completed` is among the events.
    `drop_generation` removes effects of that generation and older ones. Empty fields change nothing.
    `vital`: stops and endings, for which the reserve is used up when the disk is full.
    """

    stream: str
    expected: int
    at: float
    events: Sequence[Event] = ()
    snapshot: bytes | None = None
    receipt: Receipt | None = None
    causation: str = ""
    correlation: str = ""
    drafts: Sequence[Draft] = ()
    session: SessionRow | None = None
    writes: Sequence[WriteRow] = ()
    writes_done: Sequence[tuple[str, str]] = ()  # (session, id)
    effects: Sequence[Effect] = ()
    effects_done: Sequence[str] = ()
    drop_generation: int = 0
    vital: bool = False


class Committed(msgspec.Struct, frozen=True):
    """`version`: of the stream after the commit. `answer`: the receipt's JSON."""

    version: int
    answer: bytes = b""


class Loaded(msgspec.Struct, frozen=True):
    """A stream for its worker: the newest snapshot, events after it, and everything that must go on."""

    version: int
    snapshot: bytes | None
    snapshot_version: int
    events: list[tuple[Event, float]]  # after the snapshot, each with its time (unix seconds)
    session: SessionRow | None  # the newest one
    effects: list[Effect]
    writes: list[WriteRow]
    drafts: dict[str, str]  # item id -> its pieces so far, without the text that it started with


class EventStore(Protocol):
    """Asynchronous; every method may raise StoreBroken. Bounds: a page is at most 1,000 rows."""

    #: identity of this log; another one after a restore
    log_id: str

    async def commit(self, commit: Commit) -> Committed:
        """Raises StoreConflict, StoreFull. Returns when the transaction is on disk. Order of calls for one stream is
        the caller's business: it waits for one before it makes the next."""
        ...

    async def load(self, stream: str, *, whole: bool = False) -> Loaded:
        """`whole`: as if there were no snapshot, for a state whose shape has changed."""
        ...

    async def receipt(self, owner: str, command_id: str) -> StoredReceipt | None: ...

    async def active_streams(self) -> list[str]:
        """Streams with an open session, effects, writes or runs that have not ended: what recovery looks at."""
        ...

    async def owner(self, thread_id: str) -> str | None:
        """Whose thread it is; None if there is none. It never changes."""
        ...

    async def thread(self, thread_id: str) -> ThreadObject | None: ...

    async def threads(
        self, owner: str | None, *, before: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> list[ThreadObject]:
        """Newest activity first. `before`: id of the last thread of the page before. `owner` None: all."""
        ...

    async def run(self, run_id: str) -> RunObject | None: ...

    async def runs(self, thread_id: str, *, limit: int = 1000) -> list[RunObject]:
        """The newest `limit` runs, oldest first."""
        ...

    async def items(self, thread_id: str, *, before: str = "", limit: int = 100) -> list[ItemObject]:
        """The newest `limit` items before the item `before`, oldest first; open ones with their text so far."""
        ...

    async def request(self, request_id: str) -> RequestObject | None: ...

    async def requests(
        self, owner: str | None, *, thread_id: str = "", pending: bool = True
    ) -> list[RequestObject]: ...

    async def events(self, stream: str, *, after: int, limit: int = 500) -> list[EventObject]: ...

    async def drafts(self, thread_id: str) -> list[Draft]:
        """The text so far of each open item, one draft an item, offset 0."""
        ...

    async def snapshot(self, thread_id: str, *, items: int = 100) -> Snapshot | None:
        """All parts from one moment."""
        ...

    async def sessions(self, thread_id: str) -> list[SessionRow]:
        """All sessions of the thread, oldest first, for replay and diagnosis."""
        ...

    async def prune(self, *, receipts_before: float) -> int:
        """Forget receipts older than that (unix seconds). Returns how many went."""
        ...

    async def check(self) -> list[str]:
        """Faults found by rebuilding all views in a scratch place and comparing; empty: none."""
        ...

    async def close(self) -> None: ...
