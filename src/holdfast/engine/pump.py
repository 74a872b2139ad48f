"""Moves frames between one live session and the runner: records up into commits, committed writes down.

Owns the session's place in the journal while the link lasts, and what happens when the link goes: join again and go
on at the first frame that is not committed, or, when no runner knows the session any more, read what the dead runner's
journal holds and end the session. Frames go down in the order of their commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from holdfast import faults
from holdfast.core.reports import SessionEnded
from holdfast.engine.house import NoRunner
from holdfast.engine.link import Link, LinkClosed, LinkRefused
from holdfast.errors import HoldfastError
from holdfast.store.port import StoreConflict, StoreFull, WriteRow
from holdfast.wire.link import Record

if TYPE_CHECKING:
    from holdfast.engine.worker import ThreadWorker

log = logging.getLogger("holdfast.engine")

CONSUMED = faults.declare(
    "engine.frames.consumed", "frames are committed and not yet acknowledged to the runner"
)
SENT = faults.declare("engine.write.sent", "a committed frame has been handed to the runner")

BATCH_RECORDS = 500
"""Records of a dead runner's journal that are committed together."""

NOT_YET = frozenset({"busy", "storage_full"})
"""Refusals of a write that pass: the agent does not read, or the runner's disk is full."""


class Pump:
    """One per worker; runs while its session is live."""

    def __init__(self, worker: ThreadWorker) -> None:
        self._worker = worker
        self._frames: deque[WriteRow] = deque()
        self._more = asyncio.Event()
        self._running = False
        self._attached_to: Link | None = None
        self._acked = 0
        self._idle: Link | None = None  # where a frame can be written at once
        self._begun: Awaitable[object] | None = None  # the writing of the first of `_frames`
        self._finished = asyncio.Event()
        self._finished.set()

    def start(self, resend: Sequence[WriteRow] = ()) -> None:
        """Begin for the worker's live session. `resend`: frames that the runner may not have yet."""
        if self._running:
            return
        self._running = True
        self._finished.clear()
        self._frames.extendleft(reversed(resend))
        self._worker.house.tasks.start(self._run(), f"session of {self._worker.id}")

    def send(self, frames: Sequence[WriteRow]) -> None:
        """Hand committed frames to the runner, in order, as soon as it can be reached."""
        if not frames:
            return
        if self._idle is not None:
            # Nothing is on its way: the first one goes at once, before anybody else gets the loop's time.
            first = frames[0]
            self._begun = self._idle.write(first.session, first.id, first.data)
            self._idle = None
        self._frames.extend(frames)
        self._more.set()

    async def _run(self) -> None:
        try:
            while not await self._attached():
                pass
        finally:
            self._running = False
            self._frames.clear()
            self._finished.set()

    async def finished(self) -> None:
        """Until the session that runs now has ended."""
        await self._finished.wait()

    async def _attached(self) -> bool:
        """One life of the link. True when the session has ended."""
        worker = self._worker
        live = worker.live
        if live is None:
            return True
        try:
            link = await worker.house.runners.link(start=False)
        except NoRunner:
            await self._lost(live.id)
            return True
        except HoldfastError as error:
            log.warning("cannot reach the runner for %s: because %s", live.id, error.detail)
            await self._worker.house.pause()
            return False
        self._begun = None  # it was of another life of the link
        sending = worker.house.tasks.start(self._send_all(link), f"frames to {live.id}")
        try:
            return await self._receive(link, live.id)
        except LinkClosed:
            return False
        except LinkRefused as refused:
            log.warning("cannot attach to %s: because %s", live.id, refused)
            await self._lost(live.id)
            return True
        finally:
            sending.cancel()

    async def _receive(self, link: Link, session: str) -> bool:
        worker = self._worker
        after, self._acked = (worker.live.read_to, worker.live.row.frame_no) if worker.live else (0, 0)
        async with link.attach(session, after) as batches:
            await self._flush()
            self._attached_to = link
            try:
                async for records in batches:
                    if await self._consume(records):
                        link.ack(session, records[-1].no)
                        return True
                    self.acknowledge()
            finally:
                self._attached_to = None
        return False

    def acknowledge(self) -> None:
        """Tell the runner how far the session's records are committed."""
        live = self._worker.live
        if self._attached_to is not None and live is not None and live.row.frame_no > self._acked:
            self._acked = live.row.frame_no
            self._attached_to.ack(live.id, self._acked)

    async def _flush(self) -> None:
        while True:
            try:
                await self._worker.flush()
            except (StoreFull, StoreConflict) as error:
                log.error(
                    "cannot store frames for %s: because %s; trying again", self._worker.id, error.detail
                )
                await self._worker.house.pause()
            else:
                return

    async def _consume(self, records: Sequence[Record]) -> bool:
        """Commit, however long the database cannot take more: the frames are safe in the journal."""
        while True:
            try:
                ended = await self._worker.consume(records)
            except StoreFull as full:
                log.error("cannot store frames of %s: because %s; trying again", self._worker.id, full.detail)
                await self._worker.house.pause()
            except StoreConflict as conflict:
                log.error("cannot store frames of %s: because %s", self._worker.id, conflict.detail)
                await self._worker.start()
            else:
                faults.point(CONSUMED)
                return ended

    async def _send_all(self, link: Link) -> None:
        while True:
            while self._frames:
                frame = self._frames[0]
                writing, self._begun = self._begun, None
                try:
                    await (writing or link.write(frame.session, frame.id, frame.data))
                except LinkClosed:
                    return
                except LinkRefused as refused:
                    log.warning("cannot write to %s: because %s", frame.session, refused)
                    if refused.code in NOT_YET:
                        await self._worker.house.pause()
                        continue
                self._frames.popleft()
                faults.point(SENT)
            self._more.clear()
            self._idle = link
            try:
                await self._more.wait()
            finally:
                self._idle = None

    async def _lost(self, session: str) -> None:
        """No runner knows the session: what was read from the agent is in the journal; then it is over."""
        worker = self._worker
        live = worker.live
        after = live.read_to if live else 0
        records = worker.house.runners.lost_records(session, after)
        known = False
        for batch in _batches(records):
            known = True
            if await self._consume(batch):
                return
        cause = "runner_lost" if known or after else "unknown_session"
        await self._until_stored(SessionEnded(cause))  # type: ignore[arg-type]

    async def _until_stored(self, report: SessionEnded) -> None:
        while True:
            try:
                await self._worker.end_session(report)
            except StoreFull:
                await self._worker.house.pause()
            else:
                return


def _batches(records: Iterable[Record]) -> Iterable[list[Record]]:
    source = iter(records)
    while batch := list(islice(source, BATCH_RECORDS)):
        yield batch
