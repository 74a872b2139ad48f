"""A session's records: order, exactly-once writes, back-pressure, a full disk, and a runner that dies at any point."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from holdfast import faults
from holdfast.engine.link import Link, LinkClosed, LinkRefused, LocalLink
from holdfast.runner.core import RunnerCore
from holdfast.runner.host import HostCalls
from holdfast.runner.memory import MemoryJournals, MemoryLocks
from holdfast.wire.link import Exit, Ladder, Record, Spec
from tests.runner.harness import HELLO, eventually, follow, frames
from tests.runner.memory_processes import MemoryProcess, MemorySpawner


class World:
    """A core without a machine under it, and a link to it."""

    def __init__(self) -> None:
        self.journals = MemoryJournals()
        self.spawner = MemorySpawner()
        self.core = RunnerCore(
            runner_id="r",
            pid=1,
            spawner=self.spawner,
            journals=self.journals,
            locks=MemoryLocks(),
            host=HostCalls(self.spawner, "r"),
            now=lambda: 5.0,
        )

    async def open(self, link: Link, session: str = "s", **bounds: int) -> MemoryProcess:
        await link.open(session, Spec(["agent"], {}, "/", **bounds))  # type: ignore[arg-type]
        return self.spawner.processes[session]

    def kinds(self, session: str = "s") -> list[str]:
        return [record.kind for record in self.journals.records(session)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.core:
        yield world


@pytest.fixture
async def link(world: World) -> AsyncIterator[Link]:
    link = await LocalLink.connect(world.core, HELLO)
    yield link
    await link.aclose()


@pytest.fixture
def crash_at() -> Iterator[list[str]]:
    """Names put into the list crash the runner at their next passage."""
    names: list[str] = []

    def hook(name: str) -> None:
        if name in names:
            names.remove(name)
            raise faults.Crash(name)

    faults.set_hook(hook)
    yield names
    faults.set_hook(None)


async def test_everything_that_happens_is_one_sequence_without_gaps(world: World, link: Link) -> None:
    process = await world.open(link)
    process.say(b'{"a":1}\n{"b"')
    await link.write("s", "w1", b"hello")
    process.say(b":2}\n")
    process.complain(b"oh\xff")
    process.end(2)

    records = await follow(link, "s")

    start = {"pid": process.pid, "argv0": "agent", "started_at": 5.0}
    assert records == [
        Record(1, 5.0, "start", msgspec.json.encode(start)),
        Record(2, 5.0, "out", b'{"a":1}'),
        Record(3, 5.0, "received", b"", "w1"),
        Record(4, 5.0, "in", b"hello", "w1"),
        Record(5, 5.0, "out", b'{"b":2}'),
        Record(6, 5.0, "exit", msgspec.json.encode(Exit(2, None, "oh\ufffd"))),
    ]
    assert records == list(world.journals.records("s"))
    assert process.input == [b"hello\n"]


async def test_a_repeated_write_is_acknowledged_and_not_done(world: World, link: Link) -> None:
    process = await world.open(link)
    for _ in range(3):
        await link.write("s", "w1", b"once")
    process.reads_input = False
    for _ in range(2):
        await link.write("s", "w2", b"twice?")
    process.read_input()
    await link.write("s", "w2", b"twice?")

    assert process.input == [b"once\n", b"twice?\n"]
    assert world.kinds() == ["start", "received", "in", "received", "in"]


async def test_a_repeated_write_is_acknowledged_even_after_the_end(world: World, link: Link) -> None:
    process = await world.open(link)
    await link.write("s", "w1", b"once")
    process.end()
    await follow(link, "s")

    await link.write("s", "w1", b"once")
    with pytest.raises(LinkRefused, match="ended"):
        await link.write("s", "w2", b"too late")

    assert world.kinds() == ["start", "received", "in", "exit"]


@pytest.mark.parametrize("data", [b"", b"two\nframes", b"x" * 101], ids=["empty", "two", "long"])
async def test_a_write_that_is_not_one_frame_is_invalid(world: World, link: Link, data: bytes) -> None:
    process = await world.open(link, frame_bytes_max=100)

    with pytest.raises(LinkRefused) as refused:
        await link.write("s", "w1", data)

    assert refused.value.code == "invalid"
    assert process.input == []
    assert world.kinds() == ["start"]


async def test_the_input_closes_behind_what_waits_for_it(world: World, link: Link) -> None:
    process = await world.open(link)
    process.reads_input = False
    await link.write("s", "w1", b"first")

    await link.stop("s", Ladder(close_s=60))
    assert not process.input_closed
    process.read_input()

    assert process.input == [b"first\n"]
    assert process.input_closed


async def test_too_much_unacknowledged_stops_the_reading_until_half_is(world: World, link: Link) -> None:
    process = await world.open(link, unacked_bytes_max=10_000)
    for _ in range(30):
        process.say(b"x" * 999 + b"\n")

    assert process.paused
    assert world.core.sessions["s"].blocked
    written = len(world.kinds())
    assert world.kinds()[-1] == "blocked"
    assert 10 <= written <= 12

    records = await follow(link, "s", until=lambda record: record.kind == "blocked")
    await eventually(lambda: "unblocked" in world.kinds())
    records += await follow(link, "s", records[-1].no, until=lambda record: frames_in(world) == 30)
    process.end()
    assert len(frames(await follow(link, "s"))) == 30


def frames_in(world: World) -> int:
    return world.kinds().count("out")


async def test_an_agent_that_ends_while_blocked_is_drained(world: World, link: Link) -> None:
    process = await world.open(link, unacked_bytes_max=10_000)
    for _ in range(30):
        process.say(b"x" * 999 + b"\n")
    process.say(b"the end")

    process.end()
    await eventually(lambda: world.kinds()[-1] == "exit")

    assert frames_in(world) == 31
    assert list(world.journals.records("s"))[-2].data == b"the end"


async def test_a_full_disk_stops_the_reading_and_loses_nothing(
    world: World, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.runner.session.RETRY_STORAGE_S", 0.02)
    process = await world.open(link)
    world.journals.journals["s"].full = True
    process.say(b"one\ntwo\n")
    process.say(b"three\n")

    assert process.paused
    with pytest.raises(LinkRefused) as refused:
        await link.write("s", "w1", b"hello")
    assert refused.value.code == "storage_full"
    assert world.kinds() == ["start"]
    status = await link.status()
    assert status["sessions"][0]["storage_full"] is True  # type: ignore[index]

    world.journals.journals["s"].full = False
    await eventually(lambda: frames_in(world) == 3)
    await link.write("s", "w1", b"hello")
    assert process.input == [b"hello\n"]
    assert not process.paused


async def test_with_a_full_disk_stop_still_stops(
    world: World, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.runner.session.RETRY_STORAGE_S", 0.02)
    process = await world.open(link)
    world.journals.journals["s"].full = True
    process.say(b"one\n")

    await link.stop("s", Ladder(terminate_s=0.01))
    await eventually(lambda: process.released)
    assert process.terminated
    world.journals.journals["s"].full = False

    records = await follow(link, "s")
    assert [record.kind for record in records] == ["start", "out", "exit"]


async def test_a_full_disk_refuses_an_opening_and_leaves_no_process(world: World, link: Link) -> None:
    world.journals.full = True
    with pytest.raises(LinkRefused) as refused:
        await world.open(link)
    assert refused.value.code == "storage_full"
    assert world.spawner.processes == {}
    world.journals.full = False
    await world.open(link)


@pytest.mark.parametrize(
    ("point", "kinds", "handed_over"),
    [
        ("runner.open.spawned", [], b""),
        ("runner.write.received", ["start", "received"], b""),
        ("runner.write.half", ["start", "received"], b"hel"),
        ("runner.write.done", ["start", "received"], b"hello\n"),
        ("runner.record.appended", ["start"], b""),
        ("runner.ack", ["start", "received", "in"], b"hello\n"),
        ("runner.exit.recorded", ["start", "received", "in", "exit"], b"hello\n"),
    ],
)
async def test_after_a_crash_the_journal_holds_what_was_done_and_nothing_more_happens(
    world: World, crash_at: list[str], point: str, kinds: list[str], handed_over: bytes
) -> None:
    link = await LocalLink.connect(world.core, HELLO)
    crash_at.append(point)

    async def whole_life() -> None:
        process = await world.open(link)
        await link.write("s", "w1", b"hello")
        link.ack("s", 2)
        await link.status()
        process.end()
        await follow(link, "s")

    async with asyncio.timeout(5):
        with pytest.raises(LinkClosed):
            await whole_life()

    assert crash_at == []
    assert world.core.dead
    assert world.kinds() == kinds
    process = world.spawner.processes["s"]
    process.say(b"nobody hears this\n")
    process.end()
    assert world.kinds() == kinds
    assert b"".join(process.input) == handed_over


async def test_every_point_of_the_runner_is_declared_with_its_meaning() -> None:
    declared = {name: meaning for name, meaning in faults.POINTS.items() if name.startswith("runner.")}

    assert set(declared) == {
        "runner.ack",
        "runner.exit.recorded",
        "runner.open.spawned",
        "runner.record.appended",
        "runner.write.done",
        "runner.write.half",
        "runner.write.received",
    }
    assert all(len(meaning) > 20 for meaning in declared.values())
