"""Programs that misbehave lose nothing, hold nothing up, and leave nobody behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from holdfast.engine.link import Link, LinkRefused
from holdfast.runner import guardian
from holdfast.wire.link import Exit, Ladder, Record, Spec
from tests.runner.harness import NOW, alive, follow, frames, local_link, program


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[Link]:
    async with local_link(tmp_path) as link:
        yield link


async def run(link: Link, spec: Spec, session: str = "s") -> list[Record]:
    """The whole life of a program that ends by itself."""
    await link.open(session, spec)
    return await follow(link, session)


def end_of(records: list[Record]) -> Exit:
    assert [record.kind for record in records].count("exit") == 1
    return msgspec.json.decode(records[-1].data, type=Exit)


async def said(link: Link, text: bytes, session: str = "s") -> list[Record]:
    return await follow(
        link, session, until=lambda record: record.kind == "out" and record.data.startswith(text)
    )


async def test_half_a_line_waits_for_its_other_half(link: Link) -> None:
    await link.open("s", program("half_line"))
    await link.write("s", "w1", b"go on")

    records = await said(link, b'{"first"')

    assert frames(records) == [b'{"first":"second"}']


async def test_a_character_in_pieces_stays_whole(link: Link) -> None:
    text = '{"text":"😀ü"}'.encode()
    await link.open("s", program("split_utf8"))
    for number in range(len(text) + 1):
        await link.write("s", f"w{number}", b"next")

    assert frames(await follow(link, "s")) == [text]


async def test_noise_is_kept_and_empty_lines_are_dropped(link: Link) -> None:
    records = await run(link, program("noise"))

    assert frames(records) == [b"Welcome to the agent!", b"  \xff\xfe not text", b"[1,2", b"{}"]


async def test_a_line_of_twenty_megabytes_arrives(link: Link) -> None:
    records = await run(link, program("long_line", 20_000_000))

    assert [len(frame) for frame in frames(records)] == [20_000_000, 5]


async def test_a_line_above_the_bound_is_told_and_skipped(link: Link) -> None:
    records = await run(link, program("long_line", 300_000, "last", frame_bytes_max=100_000))

    assert frames(records) == [b"after", b"last"]
    (oversize,) = frames(records, "oversize")
    assert msgspec.json.decode(oversize) == {"bytes": 300_000, "prefix": "x" * 4096}


async def test_a_flood_of_errors_keeps_its_end_and_blocks_nothing(link: Link) -> None:
    records = await run(link, program("flood_errors", 5_000_000))

    assert frames(records) == [b"done"]
    end = end_of(records)
    assert end.code == 3
    assert end.stderr.endswith("eethe last words\n")
    assert len(end.stderr) == 64 * 1024


async def test_last_words_without_a_newline_are_never_lost(link: Link) -> None:
    for turn in range(20):
        names = [f"s{turn}-{number}" for number in range(8)]
        async with asyncio.TaskGroup() as tasks:
            lives = [tasks.create_task(run(link, program("last_words", 1_000_000), name)) for name in names]
        for life in lives:
            assert [len(frame) for frame in frames(life.result())] == [1_000_013]
            assert end_of(life.result()) == Exit(code=0)


@pytest.mark.parametrize(("mode", "end"), [(("exit_with", 4), (4, None)), (("killed",), (None, 9))], ids=str)
async def test_how_it_ended_is_told(link: Link, mode: tuple[object, ...], end: tuple[object, object]) -> None:
    told = end_of(await run(link, program(*map(str, mode))))

    assert (told.code, told.signal, told.stage) == (*end, "")
    assert told.stderr == ("cannot go on\n" if end[0] == 4 else "")


async def test_who_ignores_the_request_to_end_is_killed(link: Link) -> None:
    await link.open("s", program("ignore_term"))
    await said(link, b"ready")

    await link.stop("s", Ladder(close_s=0.05, terminate_s=0.05))

    end = end_of(await follow(link, "s"))
    assert (end.signal, end.stage) == (signal.SIGKILL, "kill")


async def test_who_ends_when_its_input_closes_is_not_signalled(link: Link) -> None:
    await link.open("s", program("echo"))

    await link.stop("s", Ladder(close_s=20))

    assert end_of(await follow(link, "s")) == Exit(code=0, stage="close")


async def test_a_second_stop_only_shortens_the_first(link: Link) -> None:
    await link.open("s", program("ignore_term"))
    await said(link, b"ready")

    await link.stop("s", Ladder(close_s=20, terminate_s=20))
    await link.stop("s", Ladder(terminate_s=0.05))
    await link.stop("s", Ladder(close_s=60, terminate_s=60))

    assert end_of(await follow(link, "s")).stage == "kill"


async def test_a_write_to_a_closed_input_is_refused_and_nothing_breaks(link: Link) -> None:
    await link.open("s", program("close_input"))
    await said(link, b"ready")

    await link.write("s", "w1", b"anybody there?")

    records = await follow(link, "s", until=lambda record: record.kind == "refused")
    assert [(record.kind, record.id) for record in records[-2:]] == [("received", "w1"), ("refused", "w1")]
    assert b"does not take its input" in records[-1].data
    await link.stop("s", NOW)
    assert end_of(await follow(link, "s")).signal == signal.SIGKILL


async def test_who_closes_its_output_is_ended(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.runner.session.SILENT_END_S", 0.05)
    await link.open("s", program("close_output"))

    records = await follow(link, "s")

    assert frames(records) == [b"last"]
    assert end_of(records) == Exit(signal=signal.SIGTERM, stage="terminate")


async def test_who_does_not_read_holds_up_nobody_else(link: Link) -> None:
    await link.open("deaf", program("no_reading"))
    await link.open("s", program("echo"))
    await link.write("deaf", "w1", b"x" * 3_000_000)
    await link.write("deaf", "w2", b"never handed over")

    await link.write("s", "w1", b"hello")
    await said(link, b"hello")
    await link.stop("deaf", NOW)

    records = await follow(link, "deaf")
    assert [(record.kind, record.id) for record in records if record.id] == [
        ("received", "w1"),
        ("received", "w2"),
        ("refused", "w1"),
        ("refused", "w2"),
    ]


async def test_a_large_write_is_handed_over_whole_when_it_is_read_late(link: Link) -> None:
    opened = await link.open("s", program("read_late"))
    await said(link, b"ready")
    await link.write("s", "w1", b"x" * 3_000_000)
    await link.write("s", "w2", b"y" * 10)
    assert isinstance(opened["pid"], int)

    os.kill(opened["pid"], signal.SIGUSR1)

    records = await follow(link, "s", until=lambda record: record.data == b"11")
    assert frames(records) == [b"ready", b"3000001", b"11"]
    assert [len(frame) for frame in frames(records, "in")] == [3_000_000, 10]


async def test_too_many_unread_writes_are_refused_as_busy(link: Link) -> None:
    await link.open("s", program("no_reading"))
    for number in range(2):
        await link.write("s", f"w{number}", b"x" * 30_000_000)

    with pytest.raises(LinkRefused, match="does not read") as refused:
        await link.write("s", "w9", b"x" * 30_000_000)

    assert refused.value.code == "busy"


async def test_children_left_behind_are_ended_and_hold_nothing_up(link: Link) -> None:
    await link.open("s", program("children"))
    records = await said(link, b"pids ")
    pids = [int(pid) for pid in records[-1].data.split()[1:]]
    assert all(alive(pid) for pid in pids)

    await link.stop("s", Ladder(close_s=20))

    end = end_of(await follow(link, "s"))
    assert end.code == 0
    assert not any(alive(pid) for pid in pids)


async def test_a_kill_finds_descendants_that_dropped_the_mark(link: Link) -> None:
    await link.open("s", program("unmarked_child"))
    (pid,) = [int(pid) for pid in (await said(link, b"pids "))[-1].data.split()[1:]]

    try:
        await link.stop("s", NOW)

        await follow(link, "s")
        assert not alive(pid)
    finally:
        guardian.kill((pid, guardian.start_time(pid) or 0))


async def test_only_this_sessions_processes_are_ended(link: Link) -> None:
    await link.open("s", program("children"))
    await link.open("s.1", program("children"))
    pids = [int(pid) for pid in (await said(link, b"pids ", "s.1"))[-1].data.split()[1:]]
    await said(link, b"pids ")

    await link.stop("s", NOW)
    await follow(link, "s")

    assert all(alive(pid) for pid in pids)
    await link.write("s.1", "w", b"still here")
    await said(link, b"still here", "s.1")


async def test_the_environment_is_exactly_what_was_asked_for_and_the_mark(link: Link) -> None:
    spec = program("environment")
    env = {"A": "b c", "LC_ALL": "C", "PYTHONHOME": "/nowhere", "EMPTY": "", "Ü": "ß"}
    records = await run(link, Spec(["/usr/bin/env"], env, "/"))
    lines = [frame for frame in frames(records) if not frame.startswith(b"HOLDFAST_SESSION_MARK=")]

    assert sorted(lines) == sorted(f"{name}={value}".encode() for name, value in env.items())
    assert len(frames(records)) == len(env) + 1

    records = await run(link, spec, "second")
    assert not any(frame.startswith(b"HOME") for frame in frames(records))


async def test_a_program_starts_with_clean_signals_and_descriptors(link: Link, tmp_path: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        records = await run(link, program("process_state", cwd=str(tmp_path)))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])

    told = dict(frame.decode().split(" ", 1) for frame in frames(records))
    assert told["SigBlk"] == "0" * 16
    assert told["fds"] == "0 1 2"
    assert told["cwd"] == str(tmp_path.resolve())
    assert told["leads"] == "True"
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25); 32 and 33 belong to the C library, which lets nobody set them
    # and hands on what whoever started the tests had. Nothing else is ignored.
    spared = sum(1 << (number - 1) for number in (13, 25, 32, 33))
    assert int(told["SigIgn"], 16) & ~spared == 0


@pytest.mark.parametrize(
    ("argv", "cwd", "code", "words"),
    [
        (["no-such-agent"], "/", "not_found", "no-such-agent"),
        (["/no/such/agent"], "/", "not_found", "No such file"),
        (["cat"], "/no/such/folder", "cwd_missing", "enter /no/such/folder"),
        (["cat"], "/etc/passwd", "cwd_missing", "Not a directory"),
        (["/etc/passwd"], "/", "spawn_failed", "Permission denied"),
        (["./script"], "{tmp}", "spawn_failed", "script"),
        (["./headless"], "{tmp}", "spawn_failed", "Exec format error"),
        ([], "/", "invalid", "argv needs a program"),
        (["a\0b"], "/", "invalid", "NUL"),
    ],
    ids=str,
)
async def test_what_cannot_start_says_why(
    link: Link, tmp_path: Path, argv: list[str], cwd: str, code: str, words: str
) -> None:
    for name, text in (("script", "#!/no/such/interpreter\n"), ("headless", "just text\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    spec = Spec(argv, {"PATH": "/usr/bin:/bin"}, cwd.format(tmp=tmp_path))

    with pytest.raises(LinkRefused) as refused:
        await link.open("s", spec)

    assert refused.value.code == code
    assert words in refused.value.detail
    # Nothing is left of it, and the id can be used again.
    assert not (tmp_path / "journals" / "s").exists()
    assert (await link.open("s", Spec([sys.executable, "-c", ""], {}, "/")))["existing"] is False
    await follow(link, "s")
