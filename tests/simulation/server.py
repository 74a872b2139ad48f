"""The simulated server: the real engine over the world's store and host, and its death at any step.

Owns one life of it after the other. A dead server's tasks still unwind, but nothing that they do leaves it: its store
refuses, its links are silent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar, cast

import msgspec

from holdfast import faults
from holdfast.agents.port import Step, TranslatorContext
from holdfast.agents.scripted import Scripted, ScriptedTranslator
from holdfast.config import AgentConfig, Config
from holdfast.core.policies import Limits
from holdfast.core.reports import ItemCompleted, Report
from holdfast.engine.agents import ConfiguredAgents
from holdfast.engine.engine import Engine
from holdfast.engine.feed import Feed
from holdfast.engine.house import Bounds, House, Tasks
from holdfast.engine.recovery import Found, recover
from holdfast.engine.workers import Workers
from holdfast.settings import Limits as ConfigLimits
from holdfast.settings import Server as ServerConfig
from holdfast.store.port import Commit, Committed, EventStore
from holdfast.store.sqlite import SqliteStore
from holdfast.wire.link import Record
from tests.simulation.agent_process import FOLDER
from tests.simulation.host import Host, Runners

T = TypeVar("T")

AGENT = "scripted"
EPOCH = 1_800_000_000.0
"""The wall clock when a simulation begins, unix seconds."""
CONFIG = Config(
    ServerConfig(),
    ConfigLimits(),
    {
        AGENT: AgentConfig(
            AGENT,
            AGENT,
            ["/bin/sh"],
            idle_timeout_s=60.0,
            env={"HOLDFAST_SCRIPTED_HOME": FOLDER, "PATH": "/bin"},
        )
    },
    {},
)


class UnsteadyTranslator(ScriptedTranslator):
    """Raises where no translator may."""

    kind: UnsteadyKind

    def receive(self, record: Record, now: float) -> Step:
        if record.kind == "out" and self.kind.strikes():
            raise RuntimeError("the translator has a fault")
        step = super().receive(record, now)
        return Step([_terse(report) for report in step.reports], step.writes) if self.kind.terse else step


def _terse(report: Report) -> Report:
    """As of an agent that never repeats at the end what it said in pieces."""
    if isinstance(report, ItemCompleted) and report.kind in ("assistant_message", "reasoning"):
        return msgspec.structs.replace(report, text=None)
    return report


class UnsteadyKind(Scripted):
    """The scripted kind, whose translators raise with the chance `raises`. `terse`: its texts come in pieces alone."""

    def __init__(self, rng: Random, counts: Counter[str], *, terse: bool) -> None:
        self.raises = 0.0
        self.terse = terse
        self._rng = rng
        self._counts = counts

    def strikes(self) -> bool:
        struck = bool(self.raises) and self._rng.random() < self.raises
        if struck:
            self._counts["translator raised"] += 1
        return struck

    def translator(self, context: TranslatorContext, state: bytes | None) -> UnsteadyTranslator:
        steady = super().translator(context, state)
        unsteady = UnsteadyTranslator(context, steady.state)
        unsteady.kind = self
        return unsteady


class ServerGone(Exception):
    """The answer will not come: the server died. What was asked may or may not have been done."""


class Gate:
    """The engine's store: late answers, and none at all after the server's death."""

    def __init__(self, store: SqliteStore, server: Server, rng: Random) -> None:
        self.log_id = store.log_id
        self._store = store
        self._server = server
        self._rng = rng

    async def commit(self, commit: Commit) -> Committed:
        await self._moment()
        committed = await self._store.commit(commit)
        await self._moment()
        return committed

    async def _moment(self) -> None:
        if not self._server.alive:
            raise faults.Crash
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.random() * 0.01)
            if not self._server.alive:
                raise faults.Crash

    def __getattr__(self, name: str) -> Any:
        read = getattr(self._store, name)

        async def later(*args: Any, **kwargs: Any) -> Any:
            await self._moment()
            result = await read(*args, **kwargs)
            await self._moment()
            return result

        return later


class Clock:
    """See `engine.clock.Clock`: virtual time, with a wall clock that may step."""

    def __init__(self) -> None:
        self.step = 0.0
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        return EPOCH + self._loop.time() + self.step

    def call_later(self, delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, call)


class Server:
    """One life. `run` ends when the server dies or is stopped."""

    def __init__(
        self,
        number: int,
        store: SqliteStore,
        host: Host,
        clock: Clock,
        limits: Limits,
        rng: Random,
        window: int,
        kind: UnsteadyKind,
    ) -> None:
        self.alive = True
        self.engine: Engine | None = None
        self.runners = Runners(host, f"server {number}")
        self.found = Found()
        self._store = store
        self._clock = clock
        self._limits = limits
        self._rng = rng
        self._window = window
        self._kinds = {kind.name: kind}
        self._over = asyncio.Event()
        self._calls: dict[asyncio.Task[Any], None] = {}

    async def run(self) -> None:
        try:
            async with Tasks() as tasks:
                agents = ConfiguredAgents(CONFIG, self._kinds, {}, self.runners)
                house = House(
                    store=cast("EventStore", Gate(self._store, self, self._rng)),
                    runners=self.runners,
                    agents=agents,
                    feed=Feed(self._window),
                    clock=self._clock,
                    tasks=tasks,
                    limits=self._limits,
                    bounds=Bounds(page=20),
                    kinds=self._kinds,
                )
                workers = Workers(house)
                self.engine = Engine(house, agents, workers, self.found, entropy=self._rng.getrandbits)
                tasks.start(recover(workers, self.found), "recovery")
                try:
                    await self._over.wait()
                finally:
                    workers.close()
        except* faults.Crash:
            self.die()
        finally:
            self.engine = None

    def die(self) -> None:
        """From here on nothing leaves it."""
        if not self.alive:
            return
        self.alive = False
        self.runners.server_gone()
        self._over.set()
        for call in list(self._calls):
            call.cancel()

    async def ask(self, what: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
        """A person's call. Raises ServerGone."""
        if self.engine is None or not self.alive:
            raise ServerGone
        call = asyncio.get_running_loop().create_task(what(self.engine))
        self._calls[call] = None
        try:
            return await asyncio.shield(call)
        except faults.Crash as crash:
            self.die()
            raise ServerGone from crash
        except asyncio.CancelledError as cancelled:
            if not self.alive and call.cancelled():
                raise ServerGone from cancelled
            call.cancel()
            raise
        finally:
            self._calls.pop(call, None)
