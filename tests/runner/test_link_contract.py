"""The link's contract: whoever carries the messages, the same calls have the same outcome."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from holdfast.engine.link import Link, LinkClosed, LinkRefused, LocalLink, Stream
from holdfast.engine.link_socket import SocketLink
from holdfast.wire import link as wire
from holdfast.wire.link import FindInFile, Hello, Ladder, Record, RunProgram, Spec, StatFile
from tests.runner.harness import HELLO, NOW, alive, eventually, follow, frames, program, real_core, runner


class Place:
    """A runner somewhere, and links to it."""

    def __init__(self, connect: Callable[[Hello], AbstractAsyncContextManager[Link]]) -> None:
        self.connect = connect


@contextlib.asynccontextmanager
async def left_at_the_end(link: Link) -> AsyncIterator[Link]:
    try:
        yield link
    finally:
        if not link.closed.is_set():
            await link.aclose()


@contextlib.asynccontextmanager
async def local_place(folder: Path) -> AsyncIterator[Place]:
    async with real_core(folder) as core:

        @contextlib.asynccontextmanager
        async def connect(hello: Hello) -> AsyncIterator[Link]:
            async with left_at_the_end(await LocalLink.connect(core, hello)) as link:
                yield link

        yield Place(connect)


@contextlib.asynccontextmanager
async def socket_place(folder: Path) -> AsyncIterator[Place]:
    with runner(folder / "home") as process:
        await (await process.link()).aclose()

        @contextlib.asynccontextmanager
        async def connect(hello: Hello) -> AsyncIterator[Link]:
            async with left_at_the_end(await SocketLink.connect(process.home.socket(), hello)) as link:
                yield link

        yield Place(connect)


@pytest.fixture(params=[local_place, socket_place], ids=["local", "socket"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with request.param(tmp_path) as place:
        yield place


@pytest.fixture
async def link(place: Place) -> AsyncIterator[Link]:
    async with place.connect(HELLO) as link:
        yield link


async def said(link: Link, text: bytes, session: str = "s", after: int = 0) -> list[Record]:
    return await follow(
        link, session, after, until=lambda record: record.kind == "out" and record.data.startswith(text)
    )


async def following(batches: AsyncIterator[list[Record]]) -> list[Record]:
    return await anext(batches)


async def test_a_session_lives_from_open_to_forget(link: Link) -> None:
    opened = await link.open("s", program("echo"))
    await link.write("s", "w1", b'{"hello":1}')
    await said(link, b'{"hello"')
    await link.stop("s", Ladder(close_s=20))
    records = await follow(link, "s")
    await link.forget("s")

    assert opened["existing"] is False
    assert [record.kind for record in records if record.kind != "out"] == ["start", "received", "in", "exit"]
    assert frames(records) == [b'{"hello":1}']
    with pytest.raises(LinkRefused) as refused:
        await follow(link, "s")
    assert refused.value.code == "unknown_session"


async def test_the_welcome_says_who_is_there_and_what_it_holds(place: Place, link: Link) -> None:
    await link.open("s", program("echo"))

    async with place.connect(HELLO) as second:
        assert second.welcome.version == wire.VERSION
        assert second.welcome.runner == link.welcome.runner
        assert second.welcome.sessions == ["s"]
        assert alive(second.welcome.pid)


async def test_without_a_common_version_it_is_refused_in_words(place: Place) -> None:
    with pytest.raises(LinkRefused, match="speaks versions 1 to 1 and the server 2 to 3") as refused:
        async with place.connect(Hello(3, 2, "from the future")):
            pass
    assert refused.value.code == "version"

    async with place.connect(Hello(3, 1, "from the near future")) as link:
        assert link.welcome.version == 1


async def test_an_unknown_message_is_ignored(link: Link) -> None:
    assert isinstance(link, LocalLink | SocketLink)
    link._send(msgspec.msgpack.encode({"type": "hibernate", "call": 77, "until": "spring"}))

    assert (await link.status())["sessions"] == []


@pytest.mark.parametrize(
    "message",
    [b"\xc1", wire.encode(HELLO), msgspec.msgpack.encode({"type": "stop"})],
    ids=["rubbish", "hello", "stop"],
)
async def test_a_malformed_message_ends_that_link_alone(place: Place, link: Link, message: bytes) -> None:
    async with place.connect(HELLO) as other:
        assert isinstance(other, LocalLink | SocketLink)
        other._send(message)
        with pytest.raises(LinkClosed):
            await other.status()

    assert (await link.status())["sessions"] == []


async def test_the_first_message_must_be_hello(link: Link, place: Place) -> None:
    with pytest.raises(LinkClosed):
        async with place.connect(wire.Status(1)):  # type: ignore[arg-type]
            pass

    await link.status()


async def test_an_open_that_is_repeated_starts_nothing(link: Link) -> None:
    spec = program("echo")
    opened = await asyncio.gather(*(link.open("s", spec) for _ in range(5)))

    assert sorted(str(answer["existing"]) for answer in opened) == ["False", "True", "True", "True", "True"]
    assert len({answer["pid"] for answer in opened}) == 1


async def test_attach_begins_after_any_position(link: Link) -> None:
    await link.open("s", program("flood", 40_000, 40))
    records = await said(link, b"flooded")
    assert len(records) == 1002

    for after in (0, 1, 500, 1001):
        assert await said(link, b"flooded", after=after) == records[after:]
    with pytest.raises(LinkRefused) as refused:
        await said(link, b"flooded", after=1003)
    assert refused.value.code == "invalid"


async def test_a_second_link_takes_the_stream_over(place: Place, link: Link) -> None:
    await link.open("s", program("echo"))
    async with link.attach("s", 0) as earlier, place.connect(HELLO) as second:
        assert (await anext(earlier))[0].kind == "start"
        async with second.attach("s", 0) as later:
            assert (await anext(later))[0].kind == "start"
            await link.write("s", "w1", b"to the newest")
            found: list[Record] = []
            while not found or found[-1].kind != "out":
                found += await anext(later)
            waiting = asyncio.create_task(following(earlier))
            await link.status()
            await second.status()
            assert not waiting.done()
            waiting.cancel()
            await asyncio.wait([waiting])


async def test_a_slow_reader_loses_nothing_and_holds_up_nobody(link: Link) -> None:
    size = 24_000_000
    await link.open("flood", program("flood", size, 1000))
    await link.open("s", program("echo"))
    async with link.attach("flood", 0) as batches:
        first = await anext(batches)
        clock = asyncio.get_running_loop().time
        slowest = 0.0
        async with link.attach("s", 0) as echoes:
            for number in range(50):
                asked = clock()
                await link.write("s", f"w{number}", b"%d" % number)
                while (await anext(echoes))[-1].kind != "out":
                    pass
                slowest = max(slowest, clock() - asked)
        assert slowest < 1.0
        # Nothing was taken from the flood meanwhile: at most a window of it has come over.
        assert isinstance(batches, Stream)
        assert sum(len(record.data) for batch in batches._batches for record in batch) < 6_000_000
        count = sum(record.kind == "out" for record in first)
        last = first[-1]
        async for records in batches:
            assert records[0].no == last.no + 1
            last = records[-1]
            link.ack("flood", last.no)
            count += sum(record.kind == "out" for record in records)
            if last.data == b"flooded":
                break
    assert count == size // 1000 + 1


async def test_stop_and_status_answer_during_a_flood(link: Link) -> None:
    await link.open("s", program("flood", 500_000_000, 1000, unacked_bytes_max=50_000_000))
    clock = asyncio.get_running_loop().time
    async with link.attach("s", 0) as batches:
        await anext(batches)
        asked = clock()
        await link.status()
        await link.stop("s", NOW)
        assert clock() - asked < 1.0
        async for records in batches:
            link.ack("s", records[-1].no)
            if records[-1].kind == "exit":
                break


async def test_calls_about_an_unknown_session_say_so(link: Link) -> None:
    calls = [link.write("x", "w", b"x"), link.stop("x", NOW), link.forget("x"), follow(link, "x")]
    for call in calls:
        with pytest.raises(LinkRefused) as refused:
            await call
        assert refused.value.code == "unknown_session"
    link.ack("x", 5)
    await link.status()


async def test_a_session_id_is_a_plain_name(link: Link) -> None:
    for session in ("", "../x", ".x", "a/b", "x" * 129, "a\0"):
        with pytest.raises(LinkRefused) as refused:
            await link.open(session, program("echo"))
        assert refused.value.code == "invalid"
    with pytest.raises(LinkRefused):
        await link.forget("..")


async def test_a_living_session_is_not_forgotten(link: Link) -> None:
    await link.open("s", program("echo"))

    with pytest.raises(LinkRefused) as refused:
        await link.forget("s")
    assert refused.value.code == "alive"


async def test_a_lock_is_held_as_long_as_the_process_lives(link: Link) -> None:
    spec = program("echo")
    locked = Spec(spec.argv, spec.env, spec.cwd, locks=["account", "other"])
    await link.open("first", locked)
    with pytest.raises(LinkRefused, match="first") as refused:
        await link.open("second", locked)
    assert refused.value.code == "locked"

    await link.stop("first", NOW)
    await follow(link, "first")
    await link.open("second", locked)


async def test_the_hosts_files_can_be_looked_at(link: Link, tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_bytes(b"x" * 1_048_570 + b"needle-over-the-edge" + b"y" * 100 + "größe".encode())

    assert await link.host(StatFile(str(tmp_path / "nothing"))) == {"exists": False, "size": 0, "mtime": 0.0}
    stat = await link.host(StatFile(str(file)))
    assert stat == {"exists": True, "size": file.stat().st_size, "mtime": file.stat().st_mtime}
    needles = ["needle-over-the-edge", "größe", "absent"]
    assert await link.host(FindInFile(str(file), needles)) == {"exists": True, "found": needles[:2]}
    assert await link.host(FindInFile(str(file), needles, bytes_max=1000)) == {"exists": True, "found": []}
    assert await link.host(FindInFile("/no/such", needles)) == {"exists": False, "found": []}


async def test_a_short_program_is_run_to_its_end(link: Link) -> None:
    script = "cat; echo out; echo err >&2; exit 3"
    run = RunProgram(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, "/")
    assert await link.host(run) == {"code": 3, "stdout": "out\n", "stderr": "err\n"}

    run = RunProgram(["sh", "-c", "yes | head -c 1000000"], {"PATH": "/usr/bin:/bin"}, "/", bytes_max=10)
    assert await link.host(run) == {"code": 0, "stdout": "y\n" * 5, "stderr": ""}

    with pytest.raises(LinkRefused) as refused:
        await link.host(RunProgram(["no-such-program"], {}, "/"))
    assert refused.value.code == "not_found"


async def test_a_program_that_takes_too_long_is_ended_with_its_children(link: Link) -> None:
    spec = program("children")
    run = RunProgram(["sh", "-c", f"{' '.join(spec.argv)}; exec sleep 100"], spec.env, "/", timeout_s=0.5)

    result = await link.host(run)

    assert result["code"] is None
    (line,) = [line for line in str(result["stdout"]).splitlines() if line.startswith("pids")]
    pids = [int(pid) for pid in line.split()[1:]]
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)


async def test_status_shows_what_is_held(link: Link) -> None:
    opened = await link.open("s", program("echo"))
    await link.write("s", "w1", b"hello")
    await said(link, b"hello")

    status = await link.status()

    assert status["connections"] == ["test"]
    sessions = status["sessions"]
    assert isinstance(sessions, list)
    session = sessions[0]
    assert session["pid"] == opened["pid"]
    assert (session["state"], session["last"], session["blocked"]) == ("live", 4, False)


async def test_shutdown_ends_every_agent_and_opens_none(link: Link) -> None:
    pids = [(await link.open(f"s{number}", program("ignore_term")))["pid"] for number in range(3)]
    await asyncio.gather(*(said(link, b"ready", f"s{number}") for number in range(3)))

    await link.shutdown(Ladder(terminate_s=0.1))

    assert not any(alive(pid) for pid in pids if isinstance(pid, int))
    with pytest.raises((LinkRefused, LinkClosed)):
        await link.open("late", program("echo"))


async def test_a_link_that_ends_fails_its_calls_and_its_streams(place: Place, link: Link) -> None:
    await link.open("s", program("echo"))
    async with place.connect(HELLO) as other:
        async with other.attach("s", 0) as batches:
            await anext(batches)
            waiting = asyncio.create_task(following(batches))
            calling = asyncio.create_task(
                other.host(RunProgram(["sleep", "2"], {"PATH": "/bin:/usr/bin"}, "/"))
            )
            await other.status()
            await other.aclose()
            for task in (waiting, calling):
                with pytest.raises(LinkClosed):
                    await task
        with pytest.raises(LinkClosed):
            await other.write("s", "w", b"x")
        other.ack("s", 1)
    for _ in range(500):  # the runner learns of it a moment later
        if (await link.status())["connections"] == ["test"]:
            break
        await asyncio.sleep(0.01)
    assert (await link.status())["connections"] == ["test"]


async def test_a_hanging_open_does_not_hold_up_others(tmp_path: Path) -> None:
    async with real_core(tmp_path) as core:
        spawn = core._spawner.spawn
        release = asyncio.Event()

        async def hang_for_one(spec: Spec, mark: str, sink: object) -> object:
            if mark.endswith(".hanging"):
                await release.wait()
            return await spawn(spec, mark, sink)  # type: ignore[arg-type]

        core._spawner.spawn = hang_for_one  # type: ignore[method-assign,assignment]
        async with left_at_the_end(await LocalLink.connect(core, HELLO)) as link:
            hanging = asyncio.create_task(link.open("hanging", program("echo")))
            async with asyncio.timeout(5):
                await asyncio.gather(*(link.open(f"s{number}", program("echo")) for number in range(12)))
            assert not hanging.done()
            release.set()
            assert (await hanging)["existing"] is False


async def test_nothing_is_left_of_many_lives(tmp_path: Path) -> None:
    from tests.runner.harness import open_files

    async with real_core(tmp_path) as core:
        link = await LocalLink.connect(core, HELLO)

        async def life(name: str) -> None:
            await link.open(name, program("echo"))
            await link.write(name, "w", b"hello")
            await link.stop(name, Ladder(close_s=20))
            await follow(link, name)
            await link.forget(name)

        await life("warm")
        await eventually(lambda: not core._tasks)
        files, tasks = open_files(), len(asyncio.all_tasks())
        for turn in range(3):
            await asyncio.gather(*(life(f"s{turn}-{number}") for number in range(5)))
        await eventually(lambda: not core._tasks)
        await eventually(lambda: open_files() <= files)
        assert len(asyncio.all_tasks()) == tasks
        assert core.sessions == {}
        await link.aclose()
