"""The writer's thread: group commit without a timer.

A group is whatever queued while the previous commit ran. Owns the thread, its bounded queue, and when checkpoints
happen; the core does the work. One call back into the event loop per group resolves all of its futures. Called by
`sqlite` from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from holdfast.errors import HoldfastError
from holdfast.store.port import Commit, Committed, StoreBroken
from holdfast.store.sqlite_core import SqliteCore

log = logging.getLogger("holdfast.store")

GROUP_MAX: Final = 512
"""Bounds the time that the first of a group waits for the last."""
QUEUE_MAX: Final = 2048
"""Commits under way at once; the next caller waits until some of them are on disk."""
IDLE_S: Final = 1.0
"""This long without a commit counts as idle: the write-ahead log is then moved into the database."""


class _Write(NamedTuple):
    commit: Commit
    future: asyncio.Future[Committed]


class _Job(NamedTuple):
    """Something else to do on the writer's connection, between groups."""

    call: Callable[[], int]
    future: asyncio.Future[int]


class Writer:
    def __init__(self, core: SqliteCore) -> None:
        self._core = core
        self._queue: SimpleQueue[_Write | _Job | None] = SimpleQueue()
        self._room = asyncio.Semaphore(QUEUE_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="holdfast-store-write", daemon=True)
        self._thread.start()

    async def commit(self, commit: Commit) -> Committed:
        """Cancelling the caller does not take the commit back."""
        async with self._room:
            future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
            self._put(_Write(commit, future))
            return await future

    async def call(self, call: Callable[[], int]) -> int:
        """Run on the writer's connection, outside of any transaction."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_Job(call, future))
        return await future

    def _put(self, entry: _Write | _Job) -> None:
        if self._closed:
            raise StoreBroken("shutting_down", "cannot commit: because the store is closed")
        self._queue.put(entry)

    async def close(self) -> None:
        """Everything that was asked for is done first."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    # In the thread

    def _run(self) -> None:
        idle = False
        while True:
            try:
                entry = self._queue.get(timeout=None if idle else IDLE_S)
            except Empty:
                self._core.checkpoint_idle()
                idle = True
                continue
            idle = False
            group: list[_Write] = []
            while entry is not None and isinstance(entry, _Write):
                group.append(entry)
                if len(group) == GROUP_MAX:
                    break
                try:
                    entry = self._queue.get_nowait()
                except Empty:
                    break
            if group:
                self._write(group)
            if isinstance(entry, _Job):
                self._do(entry)
            if entry is None:
                return
            self._core.checkpoint_if_due()

    def _write(self, group: list[_Write]) -> None:
        try:
            outcomes: list[Committed | BaseException] = list(
                self._core.commit_group([write.commit for write in group])
            )
        except (
            BaseException
        ) as error:  # a fault of ours: whoever waits must hear of it, and the thread lives on
            log.exception("cannot commit a group of %s", len(group))
            outcomes = [error] * len(group)
        _tell(group[0].future.get_loop(), _resolve, group, outcomes)

    def _do(self, job: _Job) -> None:
        outcome: int | BaseException
        try:
            outcome = job.call()
        except HoldfastError as error:
            outcome = error
        except BaseException as error:
            log.exception("cannot do a job on the writer's connection")
            outcome = error
        _tell(job.future.get_loop(), _settle, job.future, outcome)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *values: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *values)
    except RuntimeError:
        log.debug("a commit was done after its event loop had gone")


def _resolve(group: list[_Write], outcomes: list[Committed | BaseException]) -> None:
    for write, outcome in zip(group, outcomes, strict=True):
        _settle(write.future, outcome)


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
