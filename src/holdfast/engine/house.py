"""What all parts of the engine share: ports, limits, the feed, and the one place that owns tasks.

A plain record with no rules. `launch.open_engine` and the simulator fill it; workers, performers and recovery use it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar

import msgspec

from holdfast.agents.port import AgentKind, Binding, LaunchContext
from holdfast.core.policies import Limits
from holdfast.core.state import ThreadState
from holdfast.engine.clock import Clock
from holdfast.engine.feed import Feed
from holdfast.engine.link import Link
from holdfast.errors import HoldfastError, Unavailable
from holdfast.store.port import EventStore
from holdfast.wire.link import Record

log = logging.getLogger("holdfast.engine")

T = TypeVar("T")


class AgentUnusable(HoldfastError):
    """The agent cannot be started as it is configured or installed; the text says what to do."""


class NoRunner(Unavailable):
    """No runner of this home lives: what it held has ended."""


class Agents(Protocol):
    """What the engine knows of configured agents."""

    def kind(self, name: str) -> AgentKind:
        """The kind of that name. Raises AgentUnusable."""
        ...

    def context(self, state: ThreadState, binding: Binding | None, fresh_id: str) -> LaunchContext:
        """Everything that the launch of the thread's agent depends on. Raises AgentUnusable."""
        ...

    def idle_s(self, agent: str) -> float:
        """Seconds after which an idle session of the agent is closed; 0 = never."""
        ...


class Runners(Protocol):
    """The link to the host's runner, and what dead runners left."""

    async def link(self, *, start: bool = True) -> Link:
        """The live link; joins a runner, or starts one. Raises Unavailable when there is none in time, and NoRunner
        when none lives and none is to be started."""
        ...

    def lost_records(self, session: str, after: int) -> Iterable[Record]:
        """What the journal on disk holds of a session whose runner is gone."""
        ...


class Bounds(msgspec.Struct, frozen=True):
    """The engine's own bounds; `settings.Bounds` has the reasons."""

    frame_bytes_max: int = 32 * 1024 * 1024
    unacked_bytes_max: int = 256 * 1024 * 1024
    close_s: float = 5.0
    terminate_s: float = 3.0
    store_retry_s: float = 1.0
    workers_max: int = 500
    page: int = 500


class Tasks:
    """Owns every task of the engine: none outlives it, and none fails silently.

    An ordinary exception of one task is logged and ends that task alone; what is no `Exception` (the simulator's
    crash) ends them all.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        guarded = self._guard(work, name)
        try:
            task = self._group.create_task(guarded, name=name)
        except RuntimeError:  # all of them are ending
            guarded.close()
            work.close()
            raise
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
        return task

    async def finish(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Run it to its end, also when the caller is cancelled meanwhile: what is begun is not left half done."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.start(_settle(work, outcome), name)
        return await outcome

    async def _guard(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("cannot go on with %s: because of a fault in Holdfast", name)


async def _settle(work: Coroutine[Any, Any, T], outcome: asyncio.Future[T]) -> None:
    try:
        result = await work
    except Exception as error:
        if outcome.cancelled():
            raise
        outcome.set_exception(error)
    else:
        if not outcome.cancelled():
            outcome.set_result(result)
    finally:
        outcome.cancel()  # only where neither came: the work itself was cancelled


class House(msgspec.Struct, frozen=True):
    """See the module. `kinds`: all agent kinds by name."""

    store: EventStore
    runners: Runners
    agents: Agents
    feed: Feed
    clock: Clock
    tasks: Tasks
    limits: Limits
    bounds: Bounds
    kinds: Mapping[str, AgentKind]

    async def pause(self, seconds: float | None = None) -> None:
        """The wait before something is tried again; None: what the store or the runner needs."""
        waiting = asyncio.Event()
        handle = self.clock.call_later(self.bounds.store_retry_s if seconds is None else seconds, waiting.set)
        try:
            await waiting.wait()
        finally:
            handle.cancel()
