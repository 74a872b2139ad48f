"""Performs the effects of one thread after their commit: opening and ending sessions, asking an agent's history.

Owns which effects are under way, so that none is performed beside itself. What an effect leads to comes back to the
worker as a command; a step that cannot be taken now is tried again until its deadline decides otherwise. It never
decides what a failure means.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from holdfast import faults
from holdfast.agents.port import AgentKind, Begin, Binding, Launch, LaunchContext, TranslatorContext
from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core.ids import reference
from holdfast.core.reports import Failure, SessionEnded
from holdfast.engine.house import AgentUnusable, NoRunner
from holdfast.engine.link import Link, LinkClosed, LinkRefused
from holdfast.engine.session import LiveSession
from holdfast.errors import HoldfastError
from holdfast.store.port import SessionRow, StoreConflict, StoreFull
from holdfast.wire.link import HostCall, Ladder, Spec

if TYPE_CHECKING:
    from holdfast.engine.worker import ThreadWorker

log = logging.getLogger("holdfast.engine")

OPENED = faults.declare(
    "engine.session.opened", "the runner has started a process and the launch is not committed"
)
ADOPTED = faults.declare(
    "engine.session.adopted", "the launch is committed and the session is not attached yet"
)

LATER_S = 10.0
"""Between two looks for a runner by what starts none."""

LOST_RUNS_MAX = 20
"""How far back runs are looked for that a resumed conversation lacks; more in a row are not lost without a person."""

_WORDS = {
    "not_found": "its program is not there",
    "cwd_missing": "its folder is not there",
    "locked": "its conversation is in use elsewhere",
    "spawn_failed": "its program could not be started",
}


class Performer:
    def __init__(self, worker: ThreadWorker) -> None:
        self._worker = worker
        self._under_way: set[str] = set()
        self._session_steps = asyncio.Lock()  # opening and stopping one after the other
        #: effects and session row as the store had them when the worker was loaded; recovery takes them
        self.loaded: list[fx.Effect] = []
        self.row: SessionRow | None = None

    def busy(self) -> bool:
        return bool(self._under_way)

    def perform(self, effect: fx.Effect) -> None:
        identity = fx.identity(effect)
        if identity in self._under_way:
            return
        self._under_way.add(identity)
        self._worker.house.tasks.start(self._perform(effect, identity), identity)

    async def _perform(self, effect: fx.Effect, identity: str) -> None:
        try:
            while True:
                try:
                    await self._once(effect, identity)
                except NoRunner:
                    await self._worker.house.pause(LATER_S)
                except (LinkClosed, StoreFull, StoreConflict) as error:
                    log.warning("cannot finish %s yet: because %s; trying again", identity, error)
                    await self._worker.house.pause()
                else:
                    return
        finally:
            self._under_way.discard(identity)

    async def _once(self, effect: fx.Effect, identity: str) -> None:
        match effect:
            case fx.OpenSession():
                async with self._session_steps:
                    await self._open(effect, identity)
            case fx.StopSession():
                async with self._session_steps:
                    await self._stop(effect, identity)
            case fx.AskHistory():
                await self._ask_history(effect, identity)
            case fx.LetGo():
                await self._let_go(effect, identity)
            case _:
                raise AssertionError(f"{identity} is an intent, not an effect to perform")

    # Opening

    async def _open(self, effect: fx.OpenSession, identity: str) -> None:
        worker = self._worker
        if not self._current(effect.generation) or worker.live is not None:
            return
        link = await self._link()
        try:
            kind, context = self._context(effect.session_id)
            launch = kind.launch(context, await self._ask(link, list(kind.launch_calls(context))))
            missed = await self._missed(link, kind, context) if launch.resumed else []
            await link.open(effect.session_id, self._spec(launch, context))
            faults.point(OPENED)
        except AgentUnusable as error:
            await self._failed(link, effect, identity, error.detail)
            return
        except LinkRefused as error:
            if error.code == "ended":  # an earlier runner began it and died: nothing has reached that process
                await worker.end_session(SessionEnded("runner_lost"))
                return
            why = _WORDS.get(error.code, "the runner refused")
            words = f"cannot start {worker.state.agent}: because {why}: {error.detail}"
            await self._failed(link, effect, identity, words)
            return
        if not await self._adopt(effect, identity, kind, context, launch, link.welcome.runner, missed):
            await link.stop(effect.session_id, Ladder(None, worker.house.bounds.terminate_s))

    async def _missed(self, link: Link, kind: AgentKind, context: LaunchContext) -> list[str]:
        """The last runs, as far as the agent's own history lacks them.

        An agent may write its history a moment after it has acted, or has even answered: killed in that moment, it
        would silently know nothing of the message.
        """
        missed: list[str] = []
        for run in reversed(await self._worker.house.store.runs(self._worker.id, limit=LOST_RUNS_MAX)):
            if run.ended_at is None or run.origin == "agent":
                continue
            lost = run.failure is not None and run.failure.class_ in ("agent_lost", "runner_lost")
            if not lost and run.status != "completed":
                break
            calls = list(kind.history_calls(context, reference(run.id)))
            if not calls or kind.read_history(await self._ask(link, calls)) != "absent":
                break
            missed.insert(0, run.id)
        return missed

    async def _adopt(
        self,
        effect: fx.OpenSession,
        identity: str,
        kind: AgentKind,
        context: LaunchContext,
        launch: Launch,
        runner: str,
        missed: list[str],
    ) -> bool:
        """False: the session ended while its process was started, which nobody needs any more."""
        worker = self._worker
        live = LiveSession.begin(
            kind,
            TranslatorContext(
                session=effect.session_id,
                native_id=launch.native_id,
                resumed=launch.resumed,
                cwd=context.cwd,
                mode=context.mode,
                plan=context.plan,
                model=context.model,
                add_dirs=context.add_dirs,
            ),
            effect.generation,
            runner,
        )
        command = c.LaunchDone(
            effect.generation, launch.native_id, launch.resumed, launch.why, launch.grown, runner, missed
        )
        writes = live.intend(Begin(), worker.house.clock.now())
        if not await worker.adopt(live, command, writes, identity):
            return False
        faults.point(ADOPTED)
        worker.pump.start()
        return True

    async def _failed(self, link: Link, effect: fx.OpenSession, identity: str, words: str) -> None:
        """The process of an earlier try, if there was one that could not be adopted, goes too."""
        with contextlib.suppress(LinkRefused):
            await link.stop(effect.session_id, Ladder(terminate_s=None))
        failure = Failure("start_failed", words)
        await self._worker.execute(c.LaunchFailed(effect.generation, failure), done=[identity], vital=True)

    def _spec(self, launch: Launch, context: LaunchContext) -> Spec:
        bounds = self._worker.house.bounds
        return Spec(
            argv=launch.argv,
            env=launch.env,
            cwd=context.cwd,
            locks=launch.locks,
            frame_bytes_max=bounds.frame_bytes_max,
            unacked_bytes_max=bounds.unacked_bytes_max,
        )

    # Ending

    async def _stop(self, effect: fx.StopSession, identity: str) -> None:
        bounds = self._worker.house.bounds
        ladder = Ladder(bounds.close_s if effect.gentle else None, bounds.terminate_s)
        link = await self._link()
        if not self._current(effect.generation):
            return
        try:
            await link.stop(effect.session_id, ladder)
        except LinkRefused as error:
            if error.code == "unknown_session" and self._worker.live is None:
                await self._worker.end_session(SessionEnded("unknown_session"))
        await self._worker.execute(c.NoteActivity(), done=[identity], vital=True)

    async def _let_go(self, effect: fx.LetGo, identity: str) -> None:
        """Measure the native history so that its growth is noticed; then the journal may be compressed. No runner is
        started for it: it waits for one."""
        link = await self._link(start=False)
        command: c.Command = c.NoteActivity()
        try:
            kind, context = self._context(effect.session_id, Binding(effect.native_id, True))
            for answer in await self._ask(link, list(kind.size_calls(context))):
                if answer.get("exists"):
                    command = c.BindingMeasured(effect.native_id, int(answer.get("size", -1)))
        except (AgentUnusable, LinkRefused) as error:
            log.info("cannot measure the history of %s: because %s", effect.session_id, error)
        await self._worker.execute(command, done=[identity])
        try:
            await link.forget(effect.session_id)
        except LinkRefused as error:
            log.info("cannot let go of %s: because %s", effect.session_id, error)

    async def _ask_history(self, effect: fx.AskHistory, identity: str) -> None:
        worker = self._worker
        run = worker.state.runs.get(effect.run_id)
        session = worker.state.session
        found = "unknown"
        link = await self._link()
        if run is not None and session is not None:
            try:
                known = worker.state.binding
                resumable = known is not None and known.native_id == session.native_id and known.resumable
                binding = Binding(session.native_id, resumable)
                kind, context = self._context(effect.session_id, binding)
                calls = list(kind.history_calls(context, run.prompt_ref))
                if calls:
                    found = kind.read_history(await self._ask(link, calls))
            except (AgentUnusable, LinkRefused) as error:
                log.warning("cannot ask the history of %s: because %s", effect.session_id, error)
        command = c.HistoryRead(effect.run_id, effect.attempt, found)  # type: ignore[arg-type]
        await worker.execute(command, done=[identity], vital=True)

    # What they share

    def _current(self, generation: int) -> bool:
        session = self._worker.state.session
        return session is not None and session.generation == generation and session.stage != "closed"

    def _context(self, session: str, binding: Binding | None = None) -> tuple[AgentKind, LaunchContext]:
        worker = self._worker
        known = worker.state.binding
        if binding is None and known is not None:
            binding = Binding(known.native_id, known.resumable, known.native_bytes)
        kind = worker.house.agents.kind(worker.state.kind)
        return kind, worker.house.agents.context(worker.state, binding, reference(session))

    async def _ask(self, link: Link, calls: list[HostCall]) -> list[dict[str, Any]]:
        return [dict(await link.host(call)) for call in calls]

    async def _link(self, *, start: bool = True) -> Link:
        try:
            return await self._worker.house.runners.link(start=start)
        except NoRunner:
            raise
        except HoldfastError as error:
            raise LinkClosed(error.detail) from error
