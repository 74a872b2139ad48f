"""One simulated world: server, host and people, the faults of a plan upon them, the healing, and what must hold then.

`simulate(seed)` runs it from beginning to end and raises AssertionError with what does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec

from holdfast import faults
from holdfast.store.port import Commit
from holdfast.store.sqlite import SqliteStore
from tests.simulation import laws, times
from tests.simulation.host import Host
from tests.simulation.people import People
from tests.simulation.plan import Plan, Strike, Talk, plan_of
from tests.simulation.server import Clock, Server, UnsteadyKind
from tests.simulation.virtual_time import run

SETTLE_S = 400.0
TALK_S = 200.0


class Outcome(msgspec.Struct):
    """What a seed did. `passed` and `struck`: passages of and crashes at each fault point."""

    seed: int
    passed: dict[str, int]
    struck: dict[str, int]
    counts: dict[str, int]
    virtual_s: float
    trace: list[str]


def simulate(seed: int) -> Outcome:
    """Raises what went wrong first."""
    try:
        return run(_simulate(plan_of(seed)))
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _simulate(plan: Plan) -> Outcome:
    with _where(plan) as path, _log() as complaints:
        world = World(plan, await SqliteStore.open(path, inline=True, now=lambda: 0.0, log_id="log"))
        faults.set_hook(world.passed_point)
        try:
            await world.live()
        finally:
            faults.set_hook(None)
            await world.tell()
            world.store.core.close()
        if not world.counts["translator raised"]:
            assert not complaints, complaints[0]
    return Outcome(
        plan.seed,
        dict(world.passed),
        dict(world.struck),
        dict(world.counts),
        asyncio.get_running_loop().time(),
        world.trace,
    )


@contextlib.contextmanager
def _where(plan: Plan) -> Iterator[str]:
    if not plan.on_file:
        yield ":memory:"
        return
    with tempfile.TemporaryDirectory(prefix="hf-sim-") as folder:
        yield str(Path(folder) / "holdfast.db")


class _Complaints(logging.Handler):
    """What is logged with an exception is a fault of ours that nobody handled."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.formatter = logging.Formatter("%(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(self.format(record))


@contextlib.contextmanager
def _log() -> Iterator[list[str]]:
    handler = _Complaints()
    logger = logging.getLogger("holdfast")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


class World:
    def __init__(self, plan: Plan, store: SqliteStore) -> None:
        self.plan = plan
        self.store = store
        self.rng = Random(f"world {plan.seed}")
        self.clock = Clock()
        self.counts: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.trace: list[str] = []
        self.host = Host(self.rng, self.clock.now, self.counts)
        self.server: Server | None = None
        self.people = People(self.rng, lambda: self.server, self.counts)
        self.kind = UnsteadyKind(self.rng, self.counts, terse=plan.seed % 2 == 1)
        self._servers = 0
        self._outages: list[tuple[float, float]] = []
        self._server_strikes = list(plan.server)
        self._runner_strikes = list(plan.runner)
        self._since_strike: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()

    loud = False

    def note(self, text: str) -> None:
        self.trace.append(f"{self._loop.time():9.3f} {text}")
        if self.loud:
            print(self.trace[-1])

    async def tell(self) -> None:
        """The whole log, for the eyes of whoever looks at one seed."""
        for thread in self.people.threads if self.loud else ():
            for event in await self.store.events(f"thread:{thread}", after=0, limit=1000):
                print(
                    thread[-4:], event.version, event.at[14:23], event.type, bytes(event.data).decode()[:200]
                )

    # Fault points

    def passed_point(self, point: str) -> None:
        """The hook of `faults`: may end the server or the runner."""
        if not point.startswith("runner.") and (self.server is None or not self.server.alive):
            raise faults.Crash("the server is dead")
        self.passed[point] += 1
        self._since_strike[point] += 1
        if point.startswith("runner."):
            if self._is_struck(point, self._runner_strikes):
                raise faults.Crash(point)
            return
        if self._is_struck(point, self._server_strikes):
            self.kill_server()
            raise faults.Crash(point)

    def _is_struck(self, point: str, strikes: list[Strike]) -> bool:
        if not strikes or strikes[0].point != point or self._since_strike[point] < strikes[0].passage:
            return False
        strikes.pop(0)
        self._since_strike.clear()
        self.struck[point] += 1
        self.note(f"crash at {point}")
        return True

    def outage(self, begin: float, end: float) -> float:
        """Seconds between the two in which nothing could be written."""
        full = self.plan.store_full
        outages = [*self._outages, (full.begin, full.end + 1.0)] if full is not None else self._outages
        return sum(max(0.0, min(end, b) - max(begin, a)) for a, b in outages)

    def cut_off(self, begin: float, end: float) -> float:
        """Seconds between the two in which no runner could be reached, so that no death could be known."""
        window = self.plan.cut_off
        return max(0.0, min(end, window.end + 3.0) - max(begin, window.begin)) if window is not None else 0.0

    def kill_server(self) -> None:
        if self.server is not None and self.server.alive:
            self.counts["server died"] += 1
            self.note("server dies")
            self.server.die()

    # Life

    async def live(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._keep_serving()),
                group.create_task(self.people.watch_requests(group)),
            ]
            self._begin_faults()
            talks = [group.create_task(self._talk(group, talk, tasks)) for talk in self.plan.talks]
            await asyncio.sleep(self.plan.heal_at)
            self._heal()
            tasks.append(group.create_task(self._p4()))
            _, talking = await asyncio.wait(talks, timeout=TALK_S)
            assert not talking, "somebody asks for ever, and gets no answer"
            await self._settle()
            self.note("settled")
            await laws.everything_holds(self)
            for task in (*tasks, *self.people.answering):
                task.cancel()

    async def _keep_serving(self) -> None:
        try:
            while True:
                self._servers += 1
                self.server = Server(
                    self._servers,
                    self.store,
                    self.host,
                    self.clock,
                    self.plan.limits,
                    self.rng,
                    self.plan.window_bytes,
                    self.kind,
                )
                self.note(f"server {self._servers} starts")
                await self.server.run()
                self.server = None
                down = 0.05 + self.rng.random() * self.rng.choice([0.2, 4.0])
                self._outages.append((self._loop.time() - 0.1, self._loop.time() + down + 2.0))
                await asyncio.sleep(down)
        finally:
            if self.server is not None:
                self.server.die()

    async def _talk(self, group: asyncio.TaskGroup, talk: Talk, tasks: list[asyncio.Task[None]]) -> None:
        first = talk.prompts[0][1] if self.rng.random() < 0.5 else ""
        thread = await self.people.open_thread(talk.mode, first)
        self.note(f"{thread} opened")
        for _ in range(self.rng.randint(0, 2)):
            snapshot, slow = self.rng.random() < 0.5, self.rng.choice([0.0, 0.02, 0.1])
            tasks.append(group.create_task(self.people.follow(thread, snapshot=snapshot, slow=slow)))
        for at, what in talk.stops:
            tasks.append(group.create_task(self._stop(thread, at, what)))
        for pause, prompt in talk.prompts[1:] if first else talk.prompts:
            await asyncio.sleep(pause)
            await self.people.send(thread, prompt)
            self.note(f"{thread} sent {prompt!r}")

    async def _stop(self, thread: str, at: float, what: str) -> None:
        await asyncio.sleep(max(0.0, at - self._loop.time()))
        self.counts[f"stopped by a person: {what}"] += 1
        self.note(f"{thread} stop {what}")
        if what == "thread":
            await self.people.stop_thread(thread)
        elif what == "release":
            await self.people.release(thread)
        else:
            for run in reversed(await self.store.runs(thread)):
                if run.ended_at is None:
                    await self.people.stop_run(run.id)
                    return

    # Faults

    def _begin_faults(self) -> None:
        plan, host = self.plan, self.host
        host.repeats, host.unreachable = plan.repeats, plan.unreachable
        host.spawner.fails, host.spawner.mute = plan.spawn_fails, plan.mute
        host.calls.fails = plan.host_fails
        self.kind.raises = plan.translator_raises
        for moments, strike in (
            (plan.server_kills, self.kill_server),
            (plan.runner_kills, self._kill_runner),
            (plan.agent_kills, self._kill_agent),
            (plan.link_cuts, self._cut_link),
            (plan.histories_lost, self._lose_histories),
        ):
            for at in moments:
                self._loop.call_at(at, strike)
        for at, seconds in plan.clock_steps:
            self._loop.call_at(at, self._step_clock, seconds)
        for window, change in (
            (plan.store_full, self._fill_store),
            (plan.journals_full, self._fill_journals),
            (plan.cut_off, self._cut_off),
        ):
            if window is not None:
                self._loop.call_at(window.begin, change, True)
                self._loop.call_at(window.end, change, False)

    def _kill_runner(self) -> None:
        self.note("runner is killed")
        self.host.kill_runner()

    def _kill_agent(self) -> None:
        if alive := self.host.spawner.alive():
            victim = self.rng.choice(alive)
            self.counts["agent killed"] += 1
            self.note(f"agent {victim.mark} is killed")
            victim.die(None, 9)

    def _cut_link(self) -> None:
        if self.server is not None:
            self.counts["link cut"] += 1
            self.note("link is cut")
            self.server.runners.cut()

    def _lose_histories(self) -> None:
        self.counts["histories lost"] += 1
        self.note("native histories are lost")
        self.host.histories.lose()

    def _step_clock(self, seconds: float) -> None:
        self.counts["clock stepped"] += 1
        self.note(f"clock steps by {seconds}")
        self.clock.step += seconds

    def _cut_off(self, off: bool) -> None:
        self.counts["runner cut off"] += 1
        self.note(f"runner cut off: {off}")
        self.host.unreachable = 1.0 if off else self.plan.unreachable
        self._cut_link()

    def _fill_store(self, full: bool) -> None:
        self.note(f"database full: {full}")
        self.store.core.full = self._refuses if full else None

    def _refuses(self, commit: Commit) -> bool:
        refused = self.plan.store_full_for_all or not commit.vital
        if refused:
            self.counts["commit refused"] += 1
        return refused

    def _fill_journals(self, full: bool) -> None:
        if full:
            self.counts["journals full"] += 1
        self.note(f"journals full: {full}")
        self.host.journals.full = full
        for journal in self.host.journals.journals.values():
            journal.full = full

    def _heal(self) -> None:
        self.note("everything is healed")
        host = self.host
        host.repeats = host.unreachable = host.calls.fails = self.kind.raises = 0.0
        host.spawner.fails = host.spawner.mute = 0.0
        self._server_strikes.clear()
        self._runner_strikes.clear()
        self._fill_store(False)
        self._fill_journals(False)
        self.people.answers_everything = True

    # Afterwards

    async def _p4(self) -> None:
        """Every run whose agent, session or runner has ended is terminal within 30 s."""
        ended = {process.mark.partition(".")[2] for process in self.host.spawner.processes if process.dead}
        await asyncio.sleep(times.P4_S)
        await laws.nothing_hangs_on(ended, self)

    async def _settle(self) -> None:
        """Until every run has ended: releases what is held, and stops what works without end."""
        began = self._loop.time()
        stopped: set[str] = set()
        while True:
            assert self._loop.time() < began + SETTLE_S, await laws.unsettled(self)
            await asyncio.sleep(1.0)
            waiting = self.server is None
            for thread in self.people.threads:
                picture = await self.store.snapshot(thread)
                assert picture is not None, f"{thread} is gone"
                unfinished = [run for run in picture.runs if run.ended_at is None]
                waiting = waiting or bool(unfinished)
                if picture.thread.queue_held and unfinished:
                    await self.people.release(thread)
                hangs = any("hang" in run.prompt for run in picture.runs)
                for endless in unfinished if hangs and self._loop.time() > began + 60 else ():
                    if endless.status in ("starting", "working") and endless.id not in stopped:
                        stopped.add(endless.id)
                        self.note(f"{endless.id} is stopped at last")
                        await self.people.stop_run(endless.id)
            if not waiting:
                return
