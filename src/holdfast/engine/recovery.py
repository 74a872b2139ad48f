"""What the engine does when it starts: look at every thread where something was going on, go on with it, and say so.

Sessions whose process lives are attached at the first frame that is not committed, frames that the runner may not
have are sent again (it hands each over once), a translator of another version is folded again from its journal,
sessions that no runner knows are read to the end of their journal and closed, effects are taken up again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from holdfast import faults
from holdfast.core import effects as fx
from holdfast.core.reports import SessionEnded
from holdfast.engine.session import LiveSession
from holdfast.errors import HoldfastError
from holdfast.store.port import StoreConflict, StoreFull

if TYPE_CHECKING:
    from holdfast.engine.worker import ThreadWorker
    from holdfast.engine.workers import Workers

log = logging.getLogger("holdfast.engine")

RECOVERED = faults.declare("engine.recovery.thread", "one thread has been taken up again after a start")

PARALLEL = 16
"""Threads taken up at once: enough to hide waiting, few enough to leave the loop to clients."""


class Found(msgspec.Struct):
    """What the start found, told by readiness, the log and `doctor`."""

    threads: int = 0
    sessions_joined: int = 0
    sessions_lost: int = 0
    translators_folded: int = 0
    effects: int = 0
    frames_resent: int = 0
    failed: int = 0
    done: bool = False
    seconds: float = 0.0


async def recover(workers: Workers, found: Found) -> None:
    """Take up every thread that is not at rest. One thread's fault does not stop the others."""
    house = workers.house
    began = house.clock.now()
    streams = [
        s.removeprefix("thread:") for s in await house.store.active_streams() if s.startswith("thread:")
    ]
    found.threads = len(streams)
    gate = asyncio.Semaphore(PARALLEL)

    async def one(thread_id: str) -> None:
        async with gate:
            try:
                _add(found, await _until_stored(workers.get(thread_id)))
            except Exception:
                found.failed += 1
                log.exception("cannot take up thread %s: because of a fault in Holdfast", thread_id)

    await asyncio.gather(*(one(thread_id) for thread_id in streams))
    found.seconds = round(house.clock.now() - began, 3)
    found.done = True
    log.info("recovery found %s", msgspec.json.encode(found).decode())


async def _until_stored(worker: ThreadWorker) -> Found:
    while True:
        try:
            return await worker.take_up()
        except (StoreFull, StoreConflict) as error:
            log.error("cannot take up thread %s yet: because %s; trying again", worker.id, error.detail)
            await worker.house.pause()


def _add(found: Found, one: Found) -> None:
    for name in ("sessions_joined", "sessions_lost", "translators_folded", "effects", "frames_resent"):
        setattr(found, name, getattr(found, name) + getattr(one, name))


async def take_up(worker: ThreadWorker) -> Found:
    """Go on with one thread. Called by its worker alone, before the first command of this engine's life; may be
    called again when it failed."""
    found = Found(threads=1)
    await worker.start()
    effects = worker.performer.loaded
    opening = any(isinstance(x, fx.OpenSession) for x in effects)
    row = worker.performer.row
    session = worker.state.session
    if session is not None and session.stage != "closed" and worker.live is None:
        if row is not None and row.open and row.session == session.id:
            await _join(worker, found)
        elif not opening:
            found.sessions_lost += 1
            await worker.end_session(SessionEnded("unknown_session"))
    for effect in effects:
        found.effects += 1
        if isinstance(effect, fx.SendPrompt | fx.SendAnswer | fx.SendInterrupt):
            worker.waiting[fx.identity(effect)] = effect
        else:
            worker.performer.perform(effect)
    faults.point(RECOVERED)
    return found


async def _join(worker: ThreadWorker, found: Found) -> None:
    """The session's process may live: attach; the pump finds out, and ends the session if it does not."""
    row = worker.performer.row
    if row is None:
        return
    live = LiveSession(worker.house.agents.kind(row.kind), row, build=False)
    if live.needs_fold():
        try:
            live.fold([r for r in worker.house.runners.lost_records(row.session, 0) if r.no <= row.frame_no])
            found.translators_folded += 1
        except HoldfastError as error:
            log.error("cannot fold session %s again: because %s", row.session, error.detail)
            await worker.end_session(SessionEnded("unknown_session"))
            return
    else:
        live.rollback()
    worker.live = live
    resend = [w for w in worker.pending_writes if w.session == row.session]
    found.frames_resent += len(resend)
    found.sessions_joined += 1
    worker.pump.start(resend)
