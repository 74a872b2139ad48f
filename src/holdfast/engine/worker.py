"""The single writer of one thread: loads its state, decides, commits, publishes, and feeds its live session.

Owns the thread's state in memory and its lock: nothing of the thread is decided or committed outside it. It performs
no effect itself except the pure ones (an intent for a live session becomes frames inside the same commit); the
others go to `performer`. After a commit that failed, memory is what the store has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from holdfast import faults
from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core import state as st
from holdfast.core.commands import Command, NoteActivity, Observe, TimeUp
from holdfast.core.decider import decide
from holdfast.core.deciding import Context, Decided
from holdfast.core.evolve import fold
from holdfast.core.ids import stream_of
from holdfast.core.policies import deadlines
from holdfast.core.reports import Report, SessionEnded, TurnEnded
from holdfast.engine import recovery
from holdfast.engine.drafts import Drafts
from holdfast.engine.feed import Publication
from holdfast.engine.house import House
from holdfast.engine.intents import intent_of
from holdfast.engine.performer import Performer
from holdfast.engine.pump import Pump
from holdfast.engine.session import LiveSession
from holdfast.errors import Unavailable
from holdfast.store import port as store
from holdfast.wire.api import EventObject, rfc3339
from holdfast.wire.link import Record

log = logging.getLogger("holdfast.engine")

DECIDED = faults.declare("engine.commit.decided", "a command is decided and not yet committed")
COMMITTED = faults.declare(
    "engine.commit.done", "a commit is on disk and nothing that follows from it is done"
)
PUBLISHED = faults.declare(
    "engine.commit.published", "frames are on their way and readers have been told; effects come next"
)


class ThreadWorker:
    """One thread's writer. Make it, then `start` it once before anything else."""

    def __init__(self, thread_id: str, house: House) -> None:
        self.id = thread_id
        self.house = house
        self.state = st.ThreadState()
        self.live: LiveSession | None = None
        self.pump = Pump(self)
        self.performer = Performer(self)
        self.drafts = Drafts()
        self.waiting: dict[
            str, fx.Effect
        ] = {}  # effects of the living session that no translator has taken yet
        self.pending_writes: list[store.WriteRow] = []  # loaded frames that the runner may not have
        self._lock = asyncio.Lock()
        self._taking_up = asyncio.Lock()
        self._found: recovery.Found | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._gathering_at = 0.0
        self._loaded = False

    # Commands

    async def execute(
        self,
        command: Command,
        *,
        receipt: Callable[[Decided], store.Receipt] | None = None,
        correlation: str = "",
        vital: bool = False,
        done: Sequence[str] = (),
    ) -> store.Committed:
        """Decide and commit. `receipt`: made from what was decided. `done`: effects that end with it.

        It is finished although its caller goes away. Raises Rejected, Unavailable, StoreConflict, StoreFull: then
        nothing has happened.
        """
        work = self._execute(command, receipt, correlation, vital, done)
        return await self.house.tasks.finish(work, f"command for {self.id}")

    async def _execute(
        self,
        command: Command,
        receipt: Callable[[Decided], store.Receipt] | None,
        correlation: str,
        vital: bool,
        done: Sequence[str],
    ) -> store.Committed:
        await self.take_up()
        async with self._lock:
            await self._load()
            decided = decide(self.state, command, self._context())
            if not decided.events and receipt is None and not done:
                return store.Committed(self.state.version)
            return await self._commit(
                decided,
                causation=str(command.__struct_config__.tag),
                correlation=correlation,
                receipt=receipt(decided) if receipt else None,
                effects_done=done,
                vital=vital,
            )

    async def refuse(self, receipt: store.Receipt) -> None:
        """Store a deterministic refusal, so that the same command gets it again."""
        await self.take_up()
        async with self._lock:
            await self._load()
            await self._commit(Decided(self.state, [], [], []), causation="refused", receipt=receipt)

    async def take_up(self) -> recovery.Found:
        """Go on with what an earlier engine left under way, once and before any command. Raises StoreFull: again."""
        if self._found is None:
            async with self._taking_up:
                if self._found is None:
                    self._found = await recovery.take_up(self)
        return self._found

    async def start(self) -> None:
        """Load; used by recovery to look at the state before anything happens."""
        async with self._lock:
            await self._load()

    def quiet(self) -> bool:
        """Nothing is going on: the worker may be dropped from memory."""
        session = self.state.session
        open_session = session is not None and session.stage != "closed"
        locked = self._lock.locked() or self._taking_up.locked()
        return not (open_session or self.state.runs or locked or self.performer.busy())

    # Sessions

    async def adopt(
        self, live: LiveSession, command: Command, writes: Sequence[store.WriteRow], done: str
    ) -> bool:
        """A session's process runs: its row, the handshake's frames and what that means are one commit. False: the
        session has ended in the meantime, and nothing was done."""
        async with self._lock:
            session = self.state.session
            if session is None or session.generation != live.row.generation or session.stage == "closed":
                return False
            decided = decide(self.state, command, self._context())
            self.live = live
            try:
                await self._commit(
                    decided, causation="launch", session=live.row, writes=writes, effects_done=[done]
                )
            except BaseException:
                self.live = None
                raise
            return True

    async def consume(self, records: Sequence[Record]) -> bool:
        """Take in the session's records, and commit what they led to: now, or with what comes right after. Returns
        True when the session has ended with them.

        Raises StoreFull: nothing is committed, and the same records are to be given again.
        """
        async with self._lock:
            live = self.live
            if live is None:
                return True
            now = self.house.clock.now()
            try:
                live.consume(records, now)
            except Exception:
                log.exception("cannot translate a frame of %s: because of a fault in the translator", live.id)
                live.broken(records, now)
            if live.may_wait(now):
                self._gather(live.due_at, now)
                return False
            await self._observe(live)
            return self.live is None

    async def end_session(self, report: SessionEnded) -> None:
        """The session is gone and no record will say so (its runner died, or nobody knows it)."""
        async with self._lock:
            live = self.live
            if live is not None:
                live.over(report, self.house.clock.now())
                await self._observe(live)
            elif self.state.session is not None and self.state.session.stage != "closed":
                command = Observe(self.state.session.generation, [report])
                decided = decide(self.state, command, self._context())
                await self._commit(decided, causation="session_ended", vital=True)

    async def flush(self) -> None:
        """Turn waiting intents into frames, now that there is a translator."""
        async with self._lock:
            if self.live is not None and self.waiting:
                decided = Decided(st.copy(self.state), [], list(self.waiting.values()), [])
                await self._commit(decided, causation="flush")

    async def _observe(self, live: LiveSession) -> None:
        """Commit all that the session has gathered. What cannot be committed stays gathered."""
        out = live.gathered
        context = self._context()
        decided = decide(self.state, Observe(live.row.generation, out.reports), context)
        if not decided.events:
            more = decide(decided.state, NoteActivity(), context)
            decided = Decided(more.state, more.events, more.effects, decided.pieces)
        await self._commit(
            decided,
            causation="session",
            session=live.advanced(),
            writes=out.writes,
            writes_done=out.done,
            vital=_vital(out.reports),
        )
        if out.ended:
            self.live = None

    # The commit

    async def _commit(
        self,
        decided: Decided,
        *,
        causation: str,
        correlation: str = "",
        receipt: store.Receipt | None = None,
        session: store.SessionRow | None = None,
        writes: Sequence[store.WriteRow] = (),
        writes_done: Sequence[tuple[str, str]] = (),
        effects_done: Sequence[str] = (),
        vital: bool = False,
    ) -> store.Committed:
        faults.point(DECIDED)
        now = self.house.clock.now()
        ended = any(isinstance(event, e.SessionClosed) for event in decided.events)
        frames = list(writes)
        finished = list(effects_done)
        left: list[fx.Effect] = []
        for effect in decided.effects:
            rows = None if ended else await self._translate(effect, decided, now)
            if rows is None:
                left.append(effect)
            else:
                frames += rows
                finished += [fx.identity(effect)] if fx.identity(effect) in self.waiting else []
        settled = self.drafts.settle(decided.events, decided.pieces, decided.state)
        commit = store.Commit(
            stream=stream_of(self.id),
            expected=self.state.version,
            at=now,
            events=settled.events,
            snapshot=st.encode(decided.state) if settled.events else None,
            receipt=receipt,
            causation=causation,
            correlation=correlation,
            drafts=settled.rows,
            session=session,
            writes=frames,
            writes_done=writes_done,
            effects=[_stored(x) for x in left if fx.identity(x) not in self.waiting],
            effects_done=finished,
            drop_generation=decided.state.generation if ended else 0,
            vital=vital,
        )
        try:
            committed = await self.house.store.commit(commit)
        except store.StoreConflict:
            self._loaded = False
            raise
        faults.point(COMMITTED)
        self.drafts.commit(settled)
        self.state = decided.state
        if session is not None and self.live is not None:
            self.live.committed(session)
        self.pump.send(frames)
        self._publish(settled.events, settled.texts, now)
        faults.point(PUBLISHED)
        self._after(left, finished, ended)
        return committed

    async def _translate(
        self, effect: fx.Effect, decided: Decided, now: float
    ) -> list[store.WriteRow] | None:
        """The frames of an intent for the live session; None when it is no intent or there is no translator yet."""
        if self.live is None or not isinstance(effect, fx.SendPrompt | fx.SendAnswer | fx.SendInterrupt):
            return None
        if effect.generation != self.live.row.generation:
            return []
        intent = await intent_of(effect, decided, self.house.store)
        return [] if intent is None else self.live.intend(intent, now)

    def _after(self, left: Sequence[fx.Effect], done: Sequence[str], ended: bool) -> None:
        if ended:
            self.waiting.clear()
        for identity in done:
            self.waiting.pop(identity, None)
        for effect in left:
            if isinstance(effect, fx.SendPrompt | fx.SendAnswer | fx.SendInterrupt):
                self.waiting[fx.identity(effect)] = effect
            else:
                self.performer.perform(effect)
        self._rearm()

    def _publish(self, events: Sequence[e.Event], texts: Sequence[Any], now: float) -> None:
        if not self.house.feed.followed(self.id):
            return
        first = self.state.version - len(events) + 1
        at = rfc3339(now)
        objects = [
            EventObject(e.type_of(event), self.id, first + i, at, msgspec.Raw(e.encode(event)))
            for i, event in enumerate(events)
        ]
        size = sum(len(bytes(o.data)) + 200 for o in objects) + sum(len(t.text) + 100 for t in texts)
        self.house.feed.publish(self.id, Publication(self.state.version, objects, texts, size))

    # Loading and time

    async def _load(self) -> None:
        if self._loaded:
            return
        loaded = await self.house.store.load(stream_of(self.id))
        state = st.decode(loaded.snapshot) if loaded.snapshot else None
        if state is None:
            state = st.ThreadState()
            if loaded.snapshot:
                loaded = await self.house.store.load(stream_of(self.id), whole=True)
        self.state = fold(state, loaded.events)
        self.drafts.load(loaded.drafts)
        self.pending_writes = list(loaded.writes)
        self.performer.loaded = [fx.decode(row.data) for row in loaded.effects]
        self.performer.row = loaded.session
        self._loaded = True
        self._rearm()

    def _context(self) -> Context:
        kind = self.house.kinds.get(self.state.kind)
        lanes = {str(k): str(v) for k, v in kind.lanes.items()} if kind else {}
        idle = self.house.agents.idle_s(self.state.agent) if self.state.agent else 0.0
        limits = msgspec.structs.replace(self.house.limits, idle_s=idle)
        return Context(self.house.clock.now(), limits, lanes)

    def _due(self) -> list[tuple[float, TimeUp]]:
        last = self.live.last_frame_at if self.live else 0.0
        return deadlines(self.state, self._context().limits, last)

    def _rearm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [at for at, _ in self._due()]
        if self.live is not None and self.live.wake_at is not None:
            times.append(self.live.wake_at)
        if times:
            delay = max(0.001, min(times) - self.house.clock.now())
            self._timer = self.house.clock.call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.house.tasks.start(self._on_time(), f"deadline of {self.id}")

    async def _on_time(self) -> None:
        try:
            await self._tick()
            now = self.house.clock.now()
            for at, up in self._due():
                if at <= now:
                    await self.execute(up, vital=True)
        except (Unavailable, store.StoreFull, store.StoreConflict) as error:
            log.warning("cannot act on a deadline of %s yet: because %s", self.id, error.detail)
            self._timer = self.house.clock.call_later(self.house.bounds.store_retry_s, self._wake)
            return
        self._rearm()

    async def _tick(self) -> None:
        async with self._lock:
            live = self.live
            now = self.house.clock.now()
            if live is None or live.wake_at is None or live.wake_at > now:
                return
            live.tick(now)
            await self._observe(live)

    # What is gathered

    def _gather(self, due_at: float, now: float) -> None:
        """Commit at that time at last. The timer is never set back: it looks again when it comes too early."""
        if self._gathering is not None and self._gathering_at > due_at:
            self._gathering.cancel()
            self._gathering = None
        if self._gathering is None:
            self._gathering_at = due_at
            self._gathering = self.house.clock.call_later(max(0.0, due_at - now), self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        live, now = self.live, self.house.clock.now()
        if live is None or not live.due_at:
            return
        if live.may_wait(now):
            self._gather(live.due_at, now)
        else:
            self.house.tasks.start(self._commit_gathered(), f"frames of {live.id}")

    async def _commit_gathered(self) -> None:
        async with self._lock:
            live = self.live
            now = self.house.clock.now()
            if live is None or not live.due_at or live.may_wait(now):
                return
            try:
                await self._observe(live)
            except (store.StoreFull, store.StoreConflict) as error:
                log.error("cannot store frames of %s yet: because %s; trying again", self.id, error.detail)
                self._gather(now + self.house.bounds.store_retry_s, now)
        self.pump.acknowledge()

    def close(self) -> None:
        """Stop the timers; tasks belong to the house."""
        for timer in (self._timer, self._gathering):
            if timer is not None:
                timer.cancel()
        self._timer = self._gathering = None


def _stored(effect: fx.Effect) -> store.Effect:
    kind = str(effect.__struct_config__.tag)
    return store.Effect(fx.identity(effect), kind, fx.encode(effect), fx.bound_to(effect))


def _vital(reports: Sequence[Report]) -> bool:
    """Endings are written even where the disk is full."""
    return any(isinstance(report, SessionEnded | TurnEnded) for report in reports)
