"""The embedded event store: SQLite through apsw, as the port wants it.

Owns where things run: commits on the writer's thread, reads on a small pool with connections of their own, or
everything inline in the caller for the seeded simulation. What is done is in `sqlite_core`, `sqlite_append`, `views`,
`reads` and `resume`. Opened by the engine's start, closed by its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Concatenate, Final, ParamSpec, TypeVar

import apsw

from holdfast.store import check, reads, resume
from holdfast.store.port import Commit, Committed, Draft, Loaded, SessionRow, StoreBroken, StoredReceipt
from holdfast.store.reserve import Reserve
from holdfast.store.sqlite_core import SqliteCore, connect
from holdfast.store.sqlite_writer import Writer
from holdfast.wire.api import EventObject, ItemObject, RequestObject, RunObject, Snapshot, ThreadObject

READERS: Final = 2
"""One long read (a check, a large snapshot) never holds up the others."""

P = ParamSpec("P")
T = TypeVar("T")


class SqliteStore:
    """An `EventStore`. Used from one event loop."""

    def __init__(self, core: SqliteCore, *, inline: bool) -> None:
        """`inline`: over a core that may outlive this store, as it does when a simulation crashes the engine."""
        self.log_id = core.log_id
        self.core = core
        self._writer = None if inline else Writer(core)
        self._readers = None if inline else _Readers(core.path)
        self._near = None if inline else connect(core.path, reader=True)

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        inline: bool = False,
        now: Callable[[], float] = time.time,
        log_id: str = "",
    ) -> SqliteStore:
        """Open or make the database at `path`, or ":memory:" (inline only). Raises StoreBroken."""
        where = str(path)
        memory = where == ":memory:"
        if memory and not inline:
            raise ValueError("cannot open :memory: with threads: because each connection would have its own")
        reserve = None if memory else Reserve(Path(where).with_suffix(".reserve"))

        def start() -> SqliteCore:
            return SqliteCore.open(where, at=now(), log_id=log_id, reserve=reserve)

        return cls(start() if inline else await asyncio.to_thread(start), inline=inline)

    async def commit(self, commit: Commit) -> Committed:
        if self._writer is not None:
            return await self._writer.commit(commit)
        (outcome,) = self.core.commit_group([commit])
        self.core.checkpoint_if_due()
        if isinstance(outcome, Committed):
            return outcome
        raise outcome

    async def _read(
        self, read: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """Everything that `read` sees is of one moment, after every commit that was acknowledged."""

        def at_once(db: apsw.Connection) -> T:
            try:
                db.execute("BEGIN")
                try:
                    return read(db, *args, **kw)
                finally:
                    db.execute("ROLLBACK")
            except apsw.Error as error:
                raise self._unreadable(error) from error

        if self._readers is None:
            return at_once(self.core.db)
        return await self._readers.run(at_once)

    def _look_up(
        self, read: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        """One row by its key, on the loop's own thread: going to another one would take ten times as long."""
        try:
            return read(self._near or self.core.db, *args, **kw)
        except apsw.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: apsw.Error) -> StoreBroken:
        return StoreBroken(
            "internal",
            f"cannot read {self.core.path}: because of {type(error).__name__}: {error}; run holdfast doctor",
        )

    async def load(self, stream: str, *, whole: bool = False) -> Loaded:
        return await self._read(resume.load, stream, whole)

    async def receipt(self, owner: str, command_id: str) -> StoredReceipt | None:
        return self._look_up(resume.receipt, owner, command_id)

    async def active_streams(self) -> list[str]:
        return await self._read(resume.active_streams)

    async def owner(self, thread_id: str) -> str | None:
        return self._look_up(reads.owner, thread_id)

    async def thread(self, thread_id: str) -> ThreadObject | None:
        return await self._read(reads.thread, thread_id)

    async def threads(
        self, owner: str | None, *, before: str = "", limit: int = 100, project: str = "", status: str = ""
    ) -> list[ThreadObject]:
        return await self._read(reads.threads, owner, before, limit, project, status)

    async def run(self, run_id: str) -> RunObject | None:
        return await self._read(reads.run, run_id)

    async def runs(self, thread_id: str, *, limit: int = 1000) -> list[RunObject]:
        return await self._read(reads.runs, thread_id, limit)

    async def items(self, thread_id: str, *, before: str = "", limit: int = 100) -> list[ItemObject]:
        return await self._read(reads.items, thread_id, before, limit)

    async def request(self, request_id: str) -> RequestObject | None:
        return await self._read(reads.request, request_id)

    async def requests(
        self, owner: str | None, *, thread_id: str = "", pending: bool = True
    ) -> list[RequestObject]:
        return await self._read(reads.requests, owner, thread_id, pending)

    async def events(self, stream: str, *, after: int, limit: int = 500) -> list[EventObject]:
        return await self._read(reads.events, stream, after, limit)

    async def drafts(self, thread_id: str) -> list[Draft]:
        return await self._read(reads.open_texts, thread_id)

    async def snapshot(self, thread_id: str, *, items: int = 100) -> Snapshot | None:
        return await self._read(reads.snapshot, thread_id, items, self.log_id)

    async def sessions(self, thread_id: str) -> list[SessionRow]:
        return await self._read(resume.sessions, thread_id)

    async def prune(self, *, receipts_before: float) -> int:
        if self._writer is None:
            return self.core.prune(receipts_before)
        return await self._writer.call(lambda: self.core.prune(receipts_before))

    async def check(self) -> list[str]:
        return await self._read(check.check)

    async def close(self) -> None:
        """Everything that was asked for is done first. May be called again."""
        if self._writer is not None:
            await self._writer.close()
        if self._near is not None:
            self._near.close()
        if self._readers is not None:
            self._readers.close()
        self.core.close()


class _Readers:
    """A connection per thread; they close before the writer's, which alone checkpoints."""

    def __init__(self, path: str) -> None:
        self._connections: SimpleQueue[apsw.Connection] = SimpleQueue()
        for _ in range(READERS):
            self._connections.put(connect(path, reader=True))
        self._closed = False
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="holdfast-store-read")

    async def run(self, read: Callable[[apsw.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._with_connection, read)

    def _with_connection(self, read: Callable[[apsw.Connection], T]) -> T:
        db = self._connections.get()
        try:
            return read(db)
        finally:
            self._connections.put(db)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._pool.shutdown(wait=True)
        for _ in range(READERS):
            self._connections.get().close()
