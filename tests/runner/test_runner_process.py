"""A runner as a process of its own: its death and what follows, its start beside others, its memory, its leave."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.engine.link import Link, LinkClosed, LinkRefused
from holdfast.engine.link_socket import SocketLink
from holdfast.engine.runners import ensure_runner, runner_environment, runner_is_dead
from holdfast.runner import guardian, marks
from holdfast.runner.home import RunnerHome
from holdfast.runner.journal import read_records
from holdfast.wire.link import OLDEST, VERSION, Exit, Hello, Ladder, Record, Restart, Spec
from tests.runner.harness import (
    HELLO,
    NOW,
    RunnerProcess,
    alive,
    eventually,
    follow,
    frames,
    open_files,
    program,
    runner,
)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[RunnerProcess]:
    with runner(tmp_path / "home") as process:
        yield process


async def said(link: Link, text: bytes, session: str = "s", after: int = 0) -> list[Record]:
    return await follow(
        link, session, after, until=lambda record: record.kind == "out" and record.data.startswith(text)
    )


async def children_of(link: Link, session: str = "s") -> list[int]:
    await link.open(session, program("children"))
    return [int(pid) for pid in (await said(link, b"pids ", session))[-1].data.split()[1:]]


async def test_when_the_runner_is_killed_everything_that_it_started_dies(process: RunnerProcess) -> None:
    link = await process.link()
    pids = await children_of(link)
    opened = await link.open("deaf", program("ignore_term"))
    await said(link, b"ready", "deaf")
    pids.append(int(str(opened["pid"])))

    os.kill(process.pid, signal.SIGKILL)

    await eventually(lambda: not any(alive(pid) for pid in pids), 5.0)
    await link.closed.wait()
    assert await process.gone() == -signal.SIGKILL
    assert runner_is_dead(process.home.home)


async def test_what_a_killed_runner_had_read_is_in_the_journal(process: RunnerProcess) -> None:
    link = await process.link()
    await link.open("s", program("flood", 3_000_000, 100))
    await link.write("s", "w1", b"a question")
    records = await said(link, b"a question")

    os.kill(process.pid, signal.SIGKILL)
    await process.gone()

    assert list(read_records(process.home.journals, "s"))[: len(records)] == records
    assert list(read_records(process.home.journals, "s", 30_000)) == records[30_000:]


@pytest.mark.parametrize(
    ("point", "kinds"),
    [
        ("runner.open.spawned", []),
        ("runner.record.appended:2", ["start", "received"]),
        ("runner.write.received", ["start", "received"]),
        ("runner.write.half", ["start", "received"]),
        ("runner.write.done", ["start", "received"]),
        ("runner.ack", ["start", "received", "in"]),
        ("runner.exit.recorded", ["start", "received", "in", "exit"]),
    ],
)
async def test_a_runner_killed_at_any_point_leaves_a_true_journal_and_no_process(
    tmp_path: Path, point: str, kinds: list[str]
) -> None:
    async def whole_life(link: Link) -> None:
        await link.open("s", Spec(["cat"], {"PATH": "/usr/bin:/bin"}, "/"))
        await link.write("s", "w1", b"hello")
        link.ack("s", 2)
        await link.stop("s", NOW)
        await follow(link, "s")

    with runner(tmp_path / "home", HOLDFAST_FAULT=point) as process:
        link = await process.link()
        with pytest.raises(LinkClosed):
            await whole_life(link)
        assert await process.gone() == -signal.SIGKILL

    assert [
        record.kind for record in read_records(process.home.journals, "s") if record.kind != "out"
    ] == kinds
    await eventually(lambda: not guardian.marked(f"{link.welcome.runner}.", whole=False), 5.0)

    with runner(tmp_path / "home") as process:
        link = await process.link()
        with pytest.raises(LinkRefused, match="earlier runner") as refused:
            await link.open("s", program("echo"))
        assert refused.value.code == "ended"
        await link.forget("s")
        await link.aclose()


async def test_a_fault_may_strike_once_only(tmp_path: Path) -> None:
    faults = {"HOLDFAST_FAULT": "runner.ack", "HOLDFAST_FAULT_ONCE": str(tmp_path / "struck")}
    with runner(tmp_path / "home", **faults) as process:
        link = await process.link()
        link.ack("s", 1)
        assert await process.gone() == -signal.SIGKILL
    with runner(tmp_path / "home", **faults) as process:
        link = await process.link()
        link.ack("s", 1)
        await link.status()
        await link.aclose()


async def test_a_dead_guardian_is_replaced(process: RunnerProcess) -> None:
    link = await process.link()
    pids = await children_of(link)
    (first,) = guardians(link.welcome.runner)
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: [pid for pid in guardians(link.welcome.runner) if pid != first])

    os.kill(process.pid, signal.SIGKILL)

    await eventually(lambda: not any(alive(pid) for pid in pids), 5.0)
    await eventually(lambda: not guardians(link.welcome.runner))


def guardians(runner_id: str) -> list[int]:
    found = []
    for pid in guardian.pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if runner_id.encode() in words and any(word.endswith(b"guardian.py") for word in words):
            found.append(pid)
    return found


async def test_a_start_ends_what_a_dead_runner_left_when_its_guardian_died_too(
    process: RunnerProcess,
) -> None:
    link = await process.link()
    pids = await children_of(link)
    os.kill(guardians(link.welcome.runner)[0], signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    await process.gone()
    (process.home.marks / "broken.json").write_text("{not json")
    reused = marks.Mark("ralive", os.getpid(), guardian.start_time(os.getpid()) or 0, marks.boot_id())
    (process.home.marks / "ralive.json").write_bytes(msgspec.json.encode(reused))
    bystander = subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin", guardian.MARK: "ralive.s"})

    try:
        with runner(process.home.home) as second:
            await (await second.link()).aclose()
            assert not any(alive(pid) for pid in pids)
            assert bystander.poll() is None
            names = {path.name for path in process.home.marks.iterdir()}
            assert {"broken.broken", "ralive.json"} <= names
            assert f"{link.welcome.runner}.json" not in names
    finally:
        bystander.kill()
        bystander.wait()


async def test_one_runner_serves_a_home(process: RunnerProcess) -> None:
    link = await process.link()

    with runner(process.home.home) as second:
        assert await second.gone() == 3
        assert f"runner {process.pid} serves" in second.log.read_text()

    await link.status()
    await link.aclose()
    assert not runner_is_dead(process.home.home)


async def test_parallel_callers_get_the_same_runner(tmp_path: Path) -> None:
    links = await asyncio.gather(*(ensure_runner(tmp_path / "home", HELLO) for _ in range(4)))
    try:
        assert len({link.welcome.pid for link in links}) == 1
        pid = links[0].welcome.pid
        with open(f"/proc/{pid}/stat") as file:
            parent, group, session = map(int, file.read().rpartition(")")[2].split()[1:4])
        assert os.getpid() not in (parent, group, session)
        info = json.loads((tmp_path / "home/runner/runner.json").read_text())
        assert (info["pid"], info["id"]) == (pid, links[0].welcome.runner)
        assert set(info) >= {"pid", "version", "started_at"}
    finally:
        await links[0].shutdown(NOW)
        for link in links:
            await link.aclose()
    await eventually(lambda: not alive(pid))
    assert not (tmp_path / "home/runner/runner.json").exists()
    assert not (tmp_path / "home/runner/runner.sock").exists()


async def test_stale_files_are_no_obstacle(tmp_path: Path) -> None:
    home = RunnerHome(tmp_path / "home")
    home.prepare()
    (home.folder / "runner.sock").write_text("not a socket")
    (home.folder / "runner.json").write_text('{"pid": 1}')
    (home.folder / "runner.lock").write_text("")
    (home.folder / "socket").write_text("/no/such/socket")

    link = await ensure_runner(tmp_path / "home", HELLO)

    await link.shutdown(NOW)
    await link.aclose()
    await eventually(lambda: runner_is_dead(tmp_path / "home"))


async def test_a_path_too_long_for_a_socket_is_pointed_to(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    with runner(home) as process:
        link = await process.link()
        path = process.home.socket()
        assert len(str(path)) < 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        await link.shutdown(NOW)
        await link.aclose()
        assert await process.gone() == 0
    assert not path.parent.exists()
    assert not (home / "runner" / "socket").exists()


async def test_only_the_owner_can_reach_the_runner(process: RunnerProcess) -> None:
    await (await process.link()).aclose()

    assert stat.S_IMODE(process.home.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(process.home.socket().stat().st_mode) == 0o600


async def test_a_lock_is_shared_by_the_homes_of_a_user(tmp_path: Path, process: RunnerProcess) -> None:
    locks = str(process.home.home / "locks")
    echo = program("echo")
    spec = Spec(echo.argv, echo.env, echo.cwd, locks=["account"])
    with runner(tmp_path / "other", HOLDFAST_LOCKS=locks) as other:
        first, second = await process.link(), await other.link()
        await first.open("s", spec)
        with pytest.raises(LinkRefused) as refused:
            await second.open("s", spec)
        assert refused.value.code == "locked"
        assert f'"home":"{process.home.home}"' in refused.value.detail

        os.kill(process.pid, signal.SIGKILL)
        await process.gone()
        await second.open("s", spec)
        await second.aclose()


async def test_a_flood_without_a_server_costs_no_memory_and_loses_nothing(process: RunnerProcess) -> None:
    link = await process.link()
    await link.open("warm", program("flood", 4_000_000, 1000))
    await said(link, b"flooded", "warm")
    before = process.rss()
    size, bound = 64_000_000, 32_000_000
    opened = await link.open("s", program("flood", size, 1000, unacked_bytes_max=bound))
    await link.aclose()

    last = process.home.journals / "s"
    await eventually(lambda: sum(path.stat().st_size for path in last.glob("*.seg")) >= bound, 20)
    link = await process.link()
    for _ in range(500):
        if session_of(await link.status())["blocked"]:
            break
        await asyncio.sleep(0.01)
    assert session_of(await link.status())["blocked"]
    assert process.rss() - before < 16_000_000
    assert alive(int(str(opened["pid"])))

    records = await said(link, b"flooded")

    assert [int(frame[:10]) for frame in frames(records)[:-1]] == list(range(size // 1000))
    assert [record.kind for record in records].count("blocked") >= 1
    assert process.rss() - before < 24_000_000
    await link.stop("s", NOW)
    await link.aclose()


def session_of(status: dict[str, object], name: str = "s") -> dict[str, object]:
    sessions = status["sessions"]
    assert isinstance(sessions, list)
    (found,) = [session for session in sessions if session["session"] == name]
    assert isinstance(found, dict)
    return found


async def test_agents_outlive_the_link_and_the_next_one_goes_on(process: RunnerProcess) -> None:
    first = await process.link()
    await first.open("s", program("echo"))
    await first.write("s", "w1", b"before")
    records = await said(first, b"before")
    await first.aclose()

    second = await process.link()
    await second.write("s", "w1", b"before")
    await second.write("s", "w2", b"after")
    records += await said(second, b"after", after=len(records))

    assert frames(records) == [b"before", b"after"]
    assert second.welcome.sessions == ["s"]
    await second.aclose()


async def test_told_to_end_it_ends_its_agents_and_leaves(process: RunnerProcess) -> None:
    link = await process.link()
    await link.open("s", program("echo"))
    pids = await children_of(link, "t")

    os.kill(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGINT)
    await link.status()
    os.kill(process.pid, signal.SIGTERM)

    assert await process.gone() == 0
    assert not any(alive(pid) for pid in pids)
    end = msgspec.json.decode(list(read_records(process.home.journals, "s"))[-1].data, type=Exit)
    assert end == Exit(code=0, stage="close")
    assert not list(process.home.marks.iterdir())
    await link.closed.wait()


async def test_with_nothing_to_hold_it_leaves(tmp_path: Path) -> None:
    with runner(tmp_path / "home", "--idle-s", "0.2") as process:
        link = await process.link()
        await link.open("s", program("echo"))
        await link.aclose()
        link = await process.link()
        await link.stop("s", NOW)
        await follow(link, "s")
        await link.aclose()

        assert await process.gone() == 0


async def test_when_its_home_is_removed_it_leaves_with_its_agents(tmp_path: Path) -> None:
    with runner(tmp_path / "home", "--idle-s", "0.2") as process:
        link = await process.link()
        opened = await link.open("s", program("echo"))
        shutil.rmtree(process.home.home)

        assert await process.gone() == 0
        assert not alive(int(str(opened["pid"])))


async def test_orphans_that_fall_to_the_runner_are_reaped(process: RunnerProcess) -> None:
    link = await process.link()
    await children_of(link)
    await link.stop("s", Ladder(close_s=20))
    await follow(link, "s")

    def zombies() -> list[int]:
        found = []
        for pid in guardian.pids():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and int(fields[1]) == process.pid:
                found.append(pid)
        return found

    await eventually(lambda: not zombies())
    await link.aclose()


SERVER = """
import asyncio, os, sys
from pathlib import Path
from holdfast.engine.link_socket import SocketLink
from holdfast.wire.link import OLDEST, VERSION, Hello, Restart

async def main():
    restart = Restart([sys.executable, *sys.argv], dict(os.environ), "/", os.getpid())
    link = await SocketLink.connect(Path(sys.argv[1]), Hello(VERSION, OLDEST, "server", restart))
    with open(sys.argv[2], "a") as file:
        file.write(f"{os.getpid()}\\n")
    if sys.argv[3] == "leave":
        await link.aclose()
    elif sys.argv[3] == "die":
        os.kill(os.getpid(), 9)
    await link.closed.wait()

asyncio.run(main())
"""


class Server:
    """A server process that asks to be started again."""

    def __init__(self, process: RunnerProcess, folder: Path, mode: str, **env: str) -> None:
        script = folder / "server.py"
        script.write_text(SERVER)
        self._pids = folder / "pids"
        argv = [sys.executable, str(script), str(process.home.socket()), str(self._pids), mode]
        self.child = subprocess.Popen(argv, env=runner_environment(dict(os.environ)) | env)

    def pids(self) -> list[int]:
        return [int(line) for line in self._pids.read_text().split()] if self._pids.exists() else []

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()


async def test_a_server_that_dies_is_started_again(process: RunnerProcess, tmp_path: Path) -> None:
    await (await process.link()).aclose()
    server = Server(process, tmp_path, "stay")
    await eventually(lambda: len(server.pids()) == 1)

    server.kill()

    await eventually(lambda: len(server.pids()) == 2)
    again = server.pids()[1]
    assert alive(again)
    assert os.getsid(again) == again
    os.kill(process.pid, signal.SIGKILL)
    await process.gone()
    await eventually(lambda: not alive(again))  # this server ends with its link


@pytest.mark.parametrize("how", ["goodbye", "other", "off", "alive"])
async def test_a_server_is_not_started_again_without_need(
    process: RunnerProcess, tmp_path: Path, how: str
) -> None:
    watcher = await process.link() if how == "other" else None
    if watcher is None:
        await (await process.link()).aclose()
    env = {"HOLDFAST_NO_RESTART": "1"} if how == "off" else {}
    if how == "alive":
        restart = Restart(["touch", str(tmp_path / "pids")], {"PATH": "/bin:/usr/bin"}, "/", os.getpid())
        link = await process.link(Hello(VERSION, OLDEST, "server", restart))
        await link.aclose(goodbye=False)
        clue = "lives on"
    else:
        server = Server(process, tmp_path, "leave" if how == "goodbye" else "stay", **env)
        await eventually(lambda: len(server.pids()) == 1)
        if how == "goodbye":
            server.child.wait()
        else:
            server.kill()
        clue = ""
    await asyncio.sleep(
        2.3
    )  # the grace and a little: there is nothing to wait for where nothing shall happen

    assert "started it again" not in process.log.read_text()
    assert clue in process.log.read_text()
    assert len((tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []) == (
        how != "alive"
    )
    if watcher is not None:
        await watcher.aclose()


async def test_a_link_leaves_nothing_open(process: RunnerProcess) -> None:
    await (await process.link()).aclose()
    before, tasks = open_files(), len(asyncio.all_tasks())
    for _ in range(5):
        link = await SocketLink.connect(process.home.socket(), HELLO)
        await link.open("s", program("echo"))
        async with link.attach("s", 0) as batches:
            await anext(batches)
        await link.aclose()

    await eventually(lambda: open_files() <= before)
    assert len(asyncio.all_tasks()) == tasks


def test_the_runner_gets_nothing_of_ours() -> None:
    env = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOLDFAST_SERVER__DATABASE": "postgresql://secret",
        "ANTHROPIC_API_KEY": "secret",
        guardian.MARK: "r1.s1",
        "HOLDFAST_FAULT": "engine.x",
    }
    passed = runner_environment(env)

    assert set(passed) == {"PATH", "LC_ALL", "PYTHONPATH"}
    assert runner_environment({"HOLDFAST_FAULT": "runner.ack"})["HOLDFAST_FAULT"] == "runner.ack"
