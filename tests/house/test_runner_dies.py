"""The runner is killed: all that its agents started ends with it, what it had read is kept, and the next prompt works."""

import sys

import pytest

from tests.house import processes
from tests.house.house import House
from tests.house.processes import eventually, until

GONE_S = 5.0
LONG = "import time; time.sleep(95.5)"


def tool_that_spreads(house: House) -> tuple[str, list[str]]:
    """A command that leaves a process in a session of its own and a grandchild that forked twice, and stays itself."""
    program = house.root / "spread.py"
    program.write_text(
        f"""
import os, subprocess, sys, time
me = sys.executable
subprocess.Popen([me, "-c", {LONG!r}, "{house.root}/own-session"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.close(fd)
        os.execv(me, [me, "-c", {LONG!r}, "{house.root}/grandchild"])
    os._exit(0)
time.sleep(95.5)
""",
        encoding="utf-8",
    )
    marks = [str(program), f"{house.root}/own-session", f"{house.root}/grandchild"]
    return f"{sys.executable} {program}", marks


@pytest.mark.real("claude")
async def test_everything_ends_within_five_seconds_and_the_next_prompt_works(house: House) -> None:
    command, marks = tool_that_spreads(house)
    await house.start()
    talk = await house.open("claude", f"SCRIPT:bash{{{command}}}", mode="full")
    await until(lambda: all(processes.running(mark) for mark in marks))
    pid, runner = await talk.agent_pid(), house.runner_pid()
    processes.kill(runner)
    await until(
        lambda: not any(processes.running(mark) for mark in marks) and not processes.lives(pid),
        GONE_S,
        "the agent and all that it started have ended",
    )
    run = await talk.ended(within=15)
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "runner_lost")
    assert [item.status for item in await talk.items("command")] == ["interrupted"]

    again = await talk.ask("SCRIPT:hello")
    assert again.status == "completed"
    assert house.runner_pid() != runner
    assert house.model.requests[-1].users == [f"SCRIPT:bash{{{command}}}", "SCRIPT:hello"]


async def test_what_the_runner_had_read_is_in_the_thread(house: House) -> None:
    """The server is dead too while the runner reads on and dies: the journal alone has it."""
    await house.start()
    talk = await house.open("scripted", "slow 5 0.1\ntext 200000 100\nsay all of it\nsleep 600")
    await talk.working()
    await house.kill_server()

    async def has_read_it_all() -> bool:
        said = b'"delta":"all of it"'
        return any(said in path.read_bytes() for path in house.journals() if path.is_file())

    await eventually(has_read_it_all)
    processes.kill(house.runner_pid())
    await house.start()
    run = await talk.ended(within=15)

    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "runner_lost")
    texts = [item.text for item in await talk.items("assistant_message")]
    assert [len(text) for text in texts] == [len("word1 ") * 5, 200_000, len("all of it")]
    assert [int(texts[1][at * 100 : (at + 1) * 100]) for at in range(2000)] == list(range(2000))


async def test_a_pending_approval_expires_with_its_runner(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "bash touch there")
    await talk.request()
    processes.kill(house.runner_pid())
    run = await talk.ended(within=15)

    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "runner_lost")
    assert await house.client.requests() == []
    assert (await talk.ask("recall")).text.endswith("users=2")


async def test_a_thread_at_rest_does_not_notice_the_death_of_its_runner(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "remember plum")
    await talk.ended()
    processes.kill(house.runner_pid())
    run = await talk.ask("recall")
    assert (run.status, run.text) == ("completed", "I remember: plum. users=2")


async def test_server_and_runner_killed_together_leave_nothing_behind(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "slow 200 0.05")
    await talk.working()
    pid = await talk.agent_pid()
    processes.kill(house.runner_pid())
    await house.kill_server()
    await until(lambda: not processes.lives(pid), GONE_S)
    await until(lambda: not processes.belonging_to(house.root), GONE_S)
    await house.start()
    run = await talk.ended(within=15)
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "runner_lost")
    assert (await talk.ask("hello")).status == "completed"
