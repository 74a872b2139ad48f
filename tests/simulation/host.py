"""The simulated host: one runner after the other, what dead ones left, and links that delay, repeat and break.

Owns the real `RunnerCore` over memory, its death and its successor, and the engine's `Runners`. Journals and native
histories outlive every runner, as files do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from holdfast.engine.link import Link, LinkClosed, LocalLink
from holdfast.errors import Unavailable
from holdfast.runner.core import RunnerCore
from holdfast.runner.memory import MemoryJournals, MemoryLocks
from holdfast.runner.ports import HostError
from holdfast.wire import link as wire
from holdfast.wire.link import FindInFile, Hello, HostCall, Record, StatFile
from tests.simulation.agent_process import Histories, MindSpawner


class Lane:
    """One direction of a link: whole messages, late, in order."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._free_at = 0.0

    def carry(self, arrive: Callable[[], None]) -> None:
        delay = self._rng.random() * 0.04 if self._rng.random() < 0.3 else 0.0
        self._free_at = max(self._free_at + 1e-5, self._loop.time() + delay)
        self._loop.call_at(self._free_at, arrive)


class SimulatedLink(LocalLink):
    """A `LocalLink` with a lane per direction, that may say things twice, break, or lose the server at its near end."""

    def __init__(self, core: RunnerCore, rng: Random, counts: Counter[str]) -> None:
        super().__init__(core)
        self.repeats = 0.0
        self._rng = rng
        self._counts = counts
        self._down, self._up = Lane(rng), Lane(rng)
        self._gone = False  # the server's process: it neither says nor hears anything
        self._broken = False

    async def greet(self, peer: str) -> None:
        await self._greet(Hello(wire.VERSION, wire.OLDEST, peer))

    def received(self, message: bytes) -> None:
        self._up.carry(lambda: self._hear(message))

    def _hear(self, message: bytes) -> None:
        if not (self.closed.is_set() or self._gone or self._broken):
            self._message(message)

    def far_end_closed(self) -> None:
        self._up.carry(self._end_near)

    def _end_near(self) -> None:
        if not self._gone:
            self._lost()

    def _send(self, message: bytes) -> None:
        if self._gone or self._broken:
            return
        self._down.carry(lambda: self._far.message(message))
        if self.repeats and self._rng.random() < self.repeats:
            said = wire.decode_down(message)
            if isinstance(said, wire.Write | wire.Ack | wire.Taken | wire.Stop | wire.Forget | wire.Open):
                self._counts["message repeated"] += 1
                self._down.carry(lambda: self._far.message(message))

    def _close(self) -> None:
        self._down.carry(self._far.lost)
        self._up.carry(self._end_near)

    def cut(self) -> None:
        """The link breaks: what is on its way may still arrive, and each end notices in its own time."""
        self._broken = True
        self._loop.call_later(self._rng.random() * 0.5, self._end_near)
        self._loop.call_later(self._rng.random() * 0.5, self._far.lost)

    def server_gone(self) -> None:
        """What was said is still read; then the runner sees the end of the link."""
        self._gone = True
        self._down.carry(self._far.lost)


class HostCalls:
    """See `ports.HostActions`: looks at the native histories."""

    def __init__(self, histories: Histories, rng: Random) -> None:
        self.fails = 0.0
        self._histories = histories
        self._rng = rng

    async def perform(self, action: HostCall) -> dict[str, object]:
        await asyncio.sleep(self._rng.random() * 0.2)
        if self._rng.random() < self.fails:
            raise HostError("internal", "the file system hangs")
        match action:
            case StatFile(path):
                lines = self._histories.at(path)
                size = sum(len(line) + 1 for line in lines or ())
                return {"exists": lines is not None, "size": size, "mtime": 0.0}
            case FindInFile(path, needles):
                lines = self._histories.at(path)
                text = "\n".join(lines or ())
                return {"exists": lines is not None, "found": [n for n in needles if n in text]}
            case _:
                raise HostError("invalid", "the simulated host runs no programs")


class Runner(RunnerCore):
    """A core that tells when a fault point has ended it."""

    on_death: Callable[[], None] = staticmethod(lambda: None)

    def crashed(self) -> None:
        was_dead = self.dead
        super().crashed()
        if not was_dead:
            self.on_death()


class Host:
    """Everything on the host that outlives the server."""

    def __init__(self, rng: Random, wall: Callable[[], float], counts: Counter[str]) -> None:
        self.histories = Histories()
        self.journals = MemoryJournals()
        self.spawner = MindSpawner(self.histories, rng, wall)
        self.calls = HostCalls(self.histories, rng)
        self.runner: Runner | None = None
        self.runner_died_at: list[float] = []
        #: chance that no runner can be reached or started, and that a message is said twice
        self.unreachable = 0.0
        self.repeats = 0.0
        self._rng = rng
        self._wall = wall
        self._counts = counts
        self._runners = 0
        self._loop = asyncio.get_running_loop()

    def start_runner(self) -> Runner:
        """The one that lives, else a new one; first it ends what a dead one left."""
        if self.runner is not None:
            return self.runner
        for process in self.spawner.alive():
            process.die(None, 9)
        self._runners += 1
        runner = Runner(
            runner_id=f"r{self._runners}",
            pid=self._runners,
            spawner=self.spawner,
            journals=self.journals,
            locks=MemoryLocks(),
            host=self.calls,
            now=self._wall,
        )
        runner.on_death = lambda: self._runner_dead(runner)
        self.runner = runner
        return runner

    def kill_runner(self) -> None:
        if self.runner is not None:
            self.runner.crashed()

    def _runner_dead(self, runner: Runner) -> None:
        self._counts["runner died"] += 1
        self.runner = None
        self.runner_died_at.append(self._loop.time())
        for process in self.spawner.alive():
            process.abandoned()
            self._loop.call_later(self._rng.random() * 0.2, process.die, None, 9)

    async def join(self, peer: str, links: list[SimulatedLink]) -> SimulatedLink:
        """A link to the runner, noted in `links` before a word is said over it."""
        if self._rng.random() < self.unreachable:
            await asyncio.sleep(self._rng.random() * 2)
            raise Unavailable("agent_unavailable", "cannot reach a runner: because it did not start")
        if self.runner is None:
            await asyncio.sleep(self._rng.random())
        joined = SimulatedLink(self.start_runner(), self._rng, self._counts)
        joined.repeats = self.repeats
        links.append(joined)
        await joined.greet(peer)
        return joined


class Runners:
    """The house's port of one server."""

    def __init__(self, host: Host, peer: str) -> None:
        self._host = host
        self._peer = peer
        self._joining = asyncio.Lock()
        self._link: SimulatedLink | None = None
        self._links: list[SimulatedLink] = []
        self.gone = False

    async def link(self, *, start: bool = True) -> Link:
        """A dead runner is always followed by another here, as if somebody else had asked for it."""
        async with self._joining:
            if self._link is None or self._link.closed.is_set():
                try:
                    self._link = await self._host.join(self._peer, self._links)
                except LinkClosed as error:
                    raise Unavailable(
                        "agent_unavailable", f"cannot reach a runner: because {error}"
                    ) from error
            return self._link

    def lost_records(self, session: str, after: int) -> Iterable[Record]:
        return list(self._host.journals.records(session, after))

    def cut(self) -> None:
        if self._link is not None and not self._link.closed.is_set():
            self._link.cut()

    def server_gone(self) -> None:
        self.gone = True
        for each in self._links:
            each.server_gone()
