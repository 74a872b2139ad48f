"""What can be wrong around a house: each a clear error, nothing lost."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.agents.scripted import PROGRAM
from holdfast.errors import HoldfastError
from tests.house import processes
from tests.house.house import House
from tests.house.processes import eventually, until
from tests.house.talk import Talk


async def refused(house: House, *words: str) -> tuple[int, str]:
    """The exit code and the words of a command that must not succeed."""
    code, _, err = await house.cli(*words)
    assert code != 0
    assert err.startswith("error: cannot ")
    assert "Traceback" not in err
    return code, err


async def get(house: House, path: str, **headers: str) -> httpx2.Response:
    return await send(house, "GET", path, b"", **headers)


async def send(house: House, method: str, path: str, content: bytes = b"", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, house.info().url + path, content=content, headers=named)


def bearer(house: House) -> str:
    return f"Bearer {house.home.read_token()}"


async def test_a_second_server_on_one_home_is_refused_and_the_first_goes_on(house: House) -> None:
    pid = await house.start()
    talk = await house.open("scripted", "slow 40 0.05")
    code, err = await refused(house, "serve", "--port", "0")
    assert (code, str(pid) in err) == (5, True)
    assert (house.info().pid, (await talk.ended()).status) == (pid, "completed")


async def test_of_two_servers_started_at_once_one_wins(house: House) -> None:
    both = [house.spawn(), house.spawn()]
    await until(lambda: any(server.poll() is not None for server in both))
    (winner,) = [server for server in both if server.poll() is None]
    await until(house.home.server)
    house.server = winner
    assert house.info().pid == winner.pid
    assert (await (await house.open("scripted", "hello")).ended()).status == "completed"


async def test_a_home_that_is_a_file_is_said(house: House) -> None:
    file = house.root / "a-file"
    file.write_text("not a folder")
    _, err = await refused(house, "serve", "--port", "0", "--home", str(file))
    assert str(file) in err
    assert file.read_text() == "not a folder"


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Something mounted on the folder; needs the right to mount."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("platform: mounting needs rights that this user has not")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_home_that_cannot_be_written_to_is_said(house: House) -> None:
    folder = house.root / "read-only"
    with mounted(folder, "-t", "tmpfs", "-o", "ro,size=1m", "none"):
        _, err = await refused(house, "serve", "--port", "0", "--home", str(folder / "h"))
    assert str(folder) in err
    assert "read-only" in err.lower()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits\n", "config.toml"),
        ("[limits]\nstall = 3\n", "limits.stall_s"),
        ('[limits]\nstall_s = "soon"\n', "limits.stall_s"),
        ("[serve]\nport = 1\n", "server"),
        ("\xff\xfe", "config.toml"),
    ],
    ids=["no-toml", "unknown-key", "rubbish-value", "unknown-section", "no-text"],
)
async def test_a_corrupt_configuration_is_said_and_nothing_is_touched(
    house: House, text: str, said: str
) -> None:
    await house.start()
    talk = await house.open("scripted", "remember plum")
    await talk.ended()
    await house.stop_server()
    good = (house.path / "config.toml").read_text()
    (house.path / "config.toml").write_bytes(text.encode("latin-1"))
    code, err = await refused(house, "serve", "--port", "0")
    assert (code, said in err) == (2, True), err
    house.write_config(good)
    await house.start()
    assert (await talk.ask("recall")).text == "I remember: plum. users=2"


async def test_an_agent_that_is_not_installed_is_said(house: House) -> None:
    house.configure(claude={"command": ["/nowhere/claude"]})
    await house.start()
    (shown,) = [agent for agent in await house.client.agents() if agent.id == "claude"]
    assert shown.status in ("missing", "checking")
    with pytest.raises(HoldfastError) as error:
        await house.open("claude", "SCRIPT:hello")
    assert (error.value.code, "/nowhere/claude" in error.value.detail) == ("agent_unavailable", True)
    assert (await house.client.threads()).threads == []
    code, err = await refused(
        house, "run", "x", "--agent", "claude", "--cwd", str(house.workspace), "--no-start"
    )
    assert (code, "/nowhere/claude" in err) == (5, True)


async def test_an_agent_that_was_removed_fails_the_run_and_works_again_when_it_is_back(house: House) -> None:
    program = house.root / "agent"
    program.symlink_to(sys.executable)
    house.configure(scripted={"command": [str(program), "-I", "-S", PROGRAM]})
    await house.start()
    talk = await house.open("scripted", "remember plum")
    await talk.ended()
    processes.kill(await talk.agent_pid())
    await talk.session_closed()
    program.unlink()
    run = await talk.ask("recall")
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "start_failed")
    assert run.failure is not None
    assert str(program) in run.failure.message
    program.symlink_to(sys.executable)
    assert (await talk.ask("recall")).text == "I remember: plum. users=2"


async def test_an_agent_that_dies_at_its_start_is_quoted(house: House) -> None:
    house.configure(scripted_env={"HOLDFAST_SCRIPTED_START_FAIL": "no licence for you"})
    await house.start()
    talk = await house.open("scripted", "remember plum")
    run = await talk.ended()
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "start_failed")
    assert run.failure is not None
    assert "no licence for you" in run.failure.message
    assert "code 3" in run.failure.message

    await house.stop_server()
    house.configure()
    await house.start()
    assert (await talk.ask("hello")).status == "completed"


async def test_a_frame_above_the_bound_fails_the_run_and_the_thread_goes_on(house: House) -> None:
    house.configure(limits={"frame_mb": 1})
    await house.start()
    talk = await house.open("scripted", "say before\nbig 3000000\nsay after")
    run = await talk.ended()
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "frame_too_large")
    assert run.failure is not None
    assert "limits.frame_mb" in run.failure.message
    assert (await talk.items("assistant_message"))[0].text == "before"
    assert (await talk.ask("say fine")).text == "fine"


@pytest.mark.real("claude")
async def test_a_frame_of_claude_above_the_bound_fails_the_run_and_the_thread_goes_on(house: House) -> None:
    house.configure(limits={"frame_mb": 1})
    await house.start()
    talk = await house.open("claude", "SCRIPT:big{3000000}")
    run = await talk.ended()
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "frame_too_large")
    await eventually(talk.at_rest)  # what is left of the agent's turn ends first
    assert (await talk.ask("SCRIPT:hello")).status == "completed"


async def test_a_frame_of_twenty_megabytes_passes_whole(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "big 20000000")
    assert (await talk.ended()).status == "completed"
    (said,) = await talk.items("assistant_message")
    assert len(said.text) > 19_999_000
    assert set(said.text) == {"x"}


async def test_a_message_of_ten_megabytes_is_refused_and_nothing_is_lost(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "hello")
    await talk.ended()
    with pytest.raises(HoldfastError) as error:
        await talk.send("x" * 10_000_000)
    assert error.value.code == "too_large"
    assert len((await house.client.thread(talk.id)).runs) == 1
    largest = "say " + "é" * 2_000_000
    run = await talk.ask(largest)
    assert (run.prompt, run.text) == (largest, largest[4:])


async def test_a_wrong_token_is_refused(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "hello")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": bearer(house) + "x"}):
        for path in ("/threads", f"/threads/{talk.id}", "/requests", f"/threads/{talk.id}/events?after=0"):
            answer = await get(house, f"/api/v1{path}", **headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["content-type"] == "application/problem+json"
        answer = await send(house, "POST", f"/api/v1/threads/{talk.id}/stop", b"{}", **headers)
        assert answer.status_code == 401
    assert (await get(house, "/api/v1/health")).json()["status"] == "ok"
    (house.path / "token").write_text(house.home.read_token()[::-1] + "\n")
    code, err = await refused(house, "threads", "--no-start")
    assert (code, "token" in err) == (4, True), err


async def test_a_page_of_another_origin_is_refused(house: House) -> None:
    await house.start()
    url = house.info().url
    ours: dict[str, Any] = {"authorization": bearer(house)}
    foreign = [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"host": "evil.example"},
    ]
    for headers in foreign:
        answer = await get(house, "/api/v1/threads", **ours, **headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    assert (await get(house, "/api/v1/threads", **ours, origin=url)).status_code == 200


async def _fill(folder: Path) -> Path:
    """Takes all the room there is."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65536)
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 512)
    return ballast


async def test_on_a_full_disk_commands_are_refused_stop_works_and_then_all_goes_on(house: House) -> None:
    config = (house.path / "config.toml").read_text()
    with mounted(house.path, "-t", "tmpfs", "-o", "size=64m,mode=700", "none"):
        house.write_config(config)
        await house.start()
        asks = await house.open("scripted", "bash touch there")
        streams = await house.open("scripted", "slow 1000 0.02")
        request = await asks.request()
        await streams.working()
        ballast = await _fill(house.path)

        async def full() -> str:
            try:
                await house.client.create_thread("scripted", str(house.workspace), message="x" * 1_000_000)
            except HoldfastError as error:
                return error.code
            return ""

        assert await eventually(full) == "storage_full"
        await house.client.stop_run(streams.run_id)
        assert (await streams.ended()).status == "interrupted"
        declined = await house.client.answer(request.id, "decline")
        assert declined.decision == "decline"
        ballast.unlink()

        assert (await asks.ended()).status == "completed"
        assert (await streams.ask("hello")).status == "completed"
        code, out, err = await house.cli("doctor", "--json")
        assert json.loads(out)["summary"], (code, err)
        await _end_before_unmounting(house)


async def _end_before_unmounting(house: House) -> None:
    await house.stop_server()
    processes.kill(house.runner_pid())
    await until(lambda: not processes.belonging_to(house.root))


async def test_an_agent_that_writes_on_while_the_disk_is_full_loses_nothing(house: House) -> None:
    config = (house.path / "config.toml").read_text()
    with mounted(house.path, "-t", "tmpfs", "-o", "size=48m,mode=700", "none"):
        house.write_config(config)
        await house.start()
        talk = await house.open("scripted", "slow 30 0.1\ntext 2000000 1000 1\nsay end")
        await talk.working()
        ballast = await _fill(house.path)
        pid = await talk.agent_pid()

        async def held() -> bool:
            return bool((await talk.session())["storage_full"])

        await eventually(held)
        assert processes.lives(pid)
        ballast.unlink()
        run = await talk.ended(within=60)
        assert run.status == "completed"
        texts = [item.text for item in await talk.items("assistant_message")]
        assert [texts[0], texts[2]] == ["".join(f"word{at} " for at in range(1, 31)), "end"]
        assert [int(texts[1][at * 1000 : (at + 1) * 1000]) for at in range(2000)] == list(range(2000))
        await _end_before_unmounting(house)


async def test_noise_half_lines_and_split_characters_do_not_hurt(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "noise 200\nhalfline\nsplitutf8\nstderr 100000\nsay end")
    run = await talk.ended()
    assert (run.status, run.text) == ("completed", "end")
    texts = [item.text for item in await talk.items("assistant_message")]
    assert texts == ["in two halves", "grün € 🌲", "end"]
    assert (await talk.notices()).count("unreadable_output") == 1


async def test_what_an_agent_leaves_running_ends_with_it(house: House) -> None:
    await house.start()
    mark = f"sleep 94.5 # {house.root}"
    talk = await house.open("scripted", f"child {mark}\nheir {mark}\nsay done")
    await talk.ended()
    await until(lambda: len(processes.running("sleep 94.5")) >= 2)
    await house.stop_server()
    code, _, err = await house.cli("runner", "stop")
    assert code == 0, err
    await until(lambda: not [pid for pid in processes.belonging_to(house.root) if pid != os.getpid()])


async def test_a_turn_that_nobody_asked_for_is_a_run_of_its_own(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "say first\nwake 0.3 I woke up")
    await talk.ended()

    async def woke() -> list[str]:
        shown = await house.client.thread(talk.id)
        return [run.text for run in shown.runs if run.origin == "agent" and run.status == "completed"]

    assert await eventually(woke) == ["I woke up"]
    assert (await Talk(house, talk.id, talk.run_id).ask("hello")).status == "completed"
