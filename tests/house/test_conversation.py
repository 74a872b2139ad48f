"""The conversation with Claude Code is kept over its processes' lives; where it is lost, that is said and made good."""

import sys
from pathlib import Path

import pytest

from holdfast.runner.locks import FileLocks
from tests.house import processes
from tests.house.house import House
from tests.house.processes import eventually, until
from tests.house.talk import Talk, event_data

pytestmark = pytest.mark.real("claude")


def transcript(house: House) -> Path:
    """Claude Code's own file of the one conversation there is."""
    (found,) = (house.user / ".claude" / "projects").rglob("*.jsonl")
    return found


async def _let_go(talk: Talk) -> None:
    """Ends the agent's process; returns when the thread has let go of its session, whose history is then measured."""
    processes.kill(await talk.agent_pid())

    async def measured() -> bool:
        bindings = [event_data(event) for event in await talk.events() if event.type == "binding.stored"]
        return int(bindings[-1].get("native_bytes", -1)) > 0

    await eventually(measured)


async def test_an_idle_process_is_ended_and_the_next_prompt_resumes_the_conversation(house: House) -> None:
    house.configure(claude={"idle_timeout_s": 0.5})
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    pid = await talk.agent_pid()
    await talk.ended()
    await until(lambda: not processes.lives(pid))
    run = await talk.ask("SCRIPT:recall")
    assert (run.status, "plum" in run.text) == ("completed", True)
    assert house.model.requests[-1].users == ["SCRIPT:hello remember plum", "SCRIPT:recall"]
    assert await talk.notices() == []


async def test_a_lost_transcript_is_said_and_the_context_is_rebuilt(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    await talk.ended()
    await _let_go(talk)
    transcript(house).unlink()
    run = await talk.ask("SCRIPT:hello what was it")

    assert run.status == "completed"
    assert (await talk.notices()).count("context_rebuilt") == 1
    (told,) = house.model.requests[-1].users
    assert "remember plum" in told
    assert "what was it" in told
    assert run.prompt == "SCRIPT:hello what was it"
    first, second = [event_data(event) for event in await talk.events() if event.type == "session.launched"]
    assert (second["resumed"], second["native_id"] != first["native_id"]) == (False, True)


async def test_a_transcript_that_the_program_does_not_find_is_said_and_the_context_is_rebuilt(
    house: House,
) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    await talk.ended()
    await _let_go(talk)
    transcript(house).write_text("this is no transcript\n")
    run = await talk.ask("SCRIPT:hello what was it")

    assert run.status == "completed"
    assert "context_rebuilt" in await talk.notices()
    assert "remember plum" in house.model.requests[-1].users[-1]


async def test_a_history_that_grew_without_us_is_said(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    await talk.ended()
    await _let_go(talk)
    with transcript(house).open("a") as file:
        file.write('{"type":"summary","summary":"somebody else was here"}\n')
    run = await talk.ask("SCRIPT:recall")
    assert (run.status, "plum" in run.text) == ("completed", True)
    assert await talk.notices() == ["history_grown"]


async def test_a_conversation_that_another_holdfast_holds_is_not_opened_twice(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    await talk.ended()
    await _let_go(talk)
    (launched,) = [event_data(event) for event in await talk.events() if event.type == "session.launched"]
    other = FileLocks(house.root / "locks", {"home": "/another/home", "pid": 1})
    other.take([f"claude-{launched['native_id']}"], "theirs")
    run = await talk.ask("SCRIPT:recall")
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "start_failed")
    assert run.failure is not None
    assert "/another/home" in run.failure.message
    other.release("theirs")
    assert "plum" in (await talk.ask("SCRIPT:recall")).text


async def test_a_background_tasks_report_wakes_a_run_of_the_agents_own(house: House) -> None:
    await house.start()
    program = f"{sys.executable} -c 'import time; time.sleep(1)'"
    talk = await house.open("claude", f"SCRIPT:background{{{program}}}", mode="full")
    asked = await talk.ended()
    assert asked.status == "completed"

    async def woken() -> list[str]:
        shown = await house.client.thread(talk.id)
        return [run.text for run in shown.runs if run.origin == "agent" and run.status == "completed"]

    (text,) = await eventually(woken)
    assert text.startswith("A background task reported.")
    assert (await talk.run(asked.id)).text == asked.text
