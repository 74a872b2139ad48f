"""What the tests of the runner share: cores in this process, runners of their own, and waiting for facts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from holdfast.engine.link import Link, LinkClosed, LocalLink
from holdfast.engine.link_socket import SocketLink
from holdfast.engine.runners import runner_environment
from holdfast.runner import guardian
from holdfast.runner.core import RunnerCore
from holdfast.runner.home import RunnerHome
from holdfast.runner.host import HostCalls
from holdfast.runner.keeping import FileJournals
from holdfast.runner.locks import FileLocks
from holdfast.runner.processes import PosixSpawner
from holdfast.wire.link import OLDEST, VERSION, Hello, Ladder, Record, Spec

T = TypeVar("T")

PROGRAM = Path(__file__).parent.parent / "processes" / "misbehaving.py"
HELLO = Hello(VERSION, OLDEST, "test")
NOW = Ladder(terminate_s=None)


def program(mode: str, *args: object, cwd: str = "/", **bounds: int) -> Spec:
    """A session of tests/processes/misbehaving.py."""
    argv = [sys.executable, "-I", "-S", str(PROGRAM), mode, *map(str, args)]
    return Spec(argv, {"PATH": "/usr/bin:/bin"}, cwd, **bounds)  # type: ignore[arg-type]


async def eventually(fact: Callable[[], T | None], limit_s: float = 10.0) -> T:
    """The first true value of `fact`; fails at the limit."""
    deadline = time.monotonic() + limit_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"{fact} did not come true within {limit_s} s"
        await asyncio.sleep(0.01)
    return value


async def follow(
    link: Link,
    session: str,
    after: int = 0,
    until: Callable[[Record], bool] = lambda record: record.kind == "exit",
) -> list[Record]:
    """The session's records up to and including the first that `until` is true for; acknowledges each list."""
    found: list[Record] = []
    async with asyncio.timeout(30), link.attach(session, after) as batches:
        async for records in batches:
            link.ack(session, records[-1].no)
            for record in records:
                found.append(record)
                assert record.no == after + len(found)
                if until(record):
                    return found
    raise LinkClosed("ended before the record came")


def frames(records: list[Record], kind: str = "out") -> list[bytes]:
    return [record.data for record in records if record.kind == kind]


def alive(pid: int) -> bool:
    return guardian.start_time(pid) is not None


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def real_core(folder: Path, *, sync_s: float = 0.1) -> AsyncIterator[RunnerCore]:
    """A core in this process over real processes, files and locks."""
    spawner = PosixSpawner()
    core = RunnerCore(
        runner_id=f"test{os.getpid()}{folder.name}".replace("_", "")[:60],
        pid=os.getpid(),
        spawner=spawner,
        journals=FileJournals(folder / "journals", sync_s=sync_s),
        locks=FileLocks(folder / "locks", {"home": str(folder)}),
        host=HostCalls(spawner, f"host{os.getpid()}"),
        now=time.time,
    )
    async with core:
        yield core


@contextlib.asynccontextmanager
async def local_link(folder: Path) -> AsyncIterator[Link]:
    async with real_core(folder) as core:
        link = await LocalLink.connect(core, HELLO)
        yield link
        await link.aclose()


class RunnerProcess:
    """A runner of its own, a child of this process so that its end is seen."""

    def __init__(self, home: Path, *args: str, **env: str) -> None:
        self.home = RunnerHome(home)
        self.home.prepare()
        self.log = home / "test.log"
        environment = runner_environment(dict(os.environ)) | {"HOLDFAST_LOCKS": str(home / "locks")} | env
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "holdfast.runner", "--home", str(home), *args],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    async def link(self, hello: Hello = HELLO) -> SocketLink:
        async def attempt() -> SocketLink | None:
            with contextlib.suppress(OSError, LinkClosed):
                return await SocketLink.connect(self.home.socket(), hello)
            return None

        deadline = time.monotonic() + 10
        while (link := await attempt()) is None:
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            await asyncio.sleep(0.01)
        return link

    async def gone(self, limit_s: float = 10.0) -> int:
        await eventually(lambda: self.child.poll() is not None, limit_s)
        return self.child.returncode

    def rss(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the runner has ended")

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(10)


@contextlib.contextmanager
def runner(home: Path, *args: str, **env: str) -> Iterator[RunnerProcess]:
    process = RunnerProcess(home, *args, **env)
    try:
        yield process
    finally:
        process.close()


@contextlib.asynccontextmanager
async def socket_link(folder: Path) -> AsyncIterator[Link]:
    with runner(folder / "home") as process:
        link = await process.link()
        yield link
        if not link.closed.is_set():
            await link.shutdown(NOW)
            await link.aclose()
            assert await process.gone() == 0
