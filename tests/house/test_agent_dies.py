"""The agent's process is killed: the run ends with its reason, its children end, and the conversation goes on."""

import asyncio
import sys

import pytest

from holdfast.errors import HoldfastError
from tests.house import processes
from tests.house.house import House
from tests.house.processes import until
from tests.house.talk import Talk, event_data

SLEEP = "import time; time.sleep(96.5)"


async def _launches(talk: Talk) -> list[tuple[str, bool]]:
    """Native id of each session, and whether it resumed."""
    events = [event_data(event) for event in await talk.events() if event.type == "session.launched"]
    return [(data["native_id"], data["resumed"]) for data in events]


@pytest.mark.real("claude")
@pytest.mark.parametrize("after_ms", [0, 50, 200, 500])
async def test_killed_right_after_its_first_turn_the_next_prompt_goes_on(house: House, after_ms: int) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    pid = await talk.agent_pid()
    assert (await talk.ended()).status == "completed"
    await asyncio.sleep(after_ms / 1000)  # how long after its turn it dies is what this test varies
    processes.kill(pid)
    run = await talk.ask("SCRIPT:recall")

    assert run.status == "completed"
    assert "plum" in run.text
    asked = house.model.requests[-1]
    launches = await _launches(talk)
    if len(launches) == 2 and launches[1][1]:
        assert launches[1][0] == launches[0][0]
        assert asked.users == ["SCRIPT:hello remember plum", "SCRIPT:recall"]
    else:
        assert "context_rebuilt" in await talk.notices()
        assert "remember plum" in asked.users[-1]
    assert await talk.agent_pid() != pid


@pytest.mark.real("claude")
async def test_killed_while_it_streams_the_run_fails_and_the_next_prompt_resumes(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:hello one")
    await talk.ended()
    await talk.send("SCRIPT:slow{200,0.05}")
    await talk.working("word3 ")
    processes.kill(await talk.agent_pid())
    run = await talk.ended(within=10)

    assert run.failure is not None
    assert (run.status, run.failure.class_) == ("failed", "agent_lost")
    assert "signal 9" in run.failure.message
    cut_off = (await talk.items("assistant_message"))[-1]
    assert (cut_off.status, cut_off.text.startswith("word1 word2 word3 ")) == ("interrupted", True)

    again = await talk.ask("SCRIPT:hello three")
    assert again.status == "completed"
    first, second = await _launches(talk)
    assert (second[0], second[1]) == (first[0], True)
    assert house.model.requests[-1].users == [
        "SCRIPT:hello one",
        "SCRIPT:slow{200,0.05}",
        "SCRIPT:hello three",
    ]


@pytest.mark.real("claude")
@pytest.mark.parametrize("earlier", [True, False], ids=["later-turn", "first-turn"])
async def test_killed_before_it_wrote_its_history_the_message_is_told_again_and_it_is_said(
    house: House, earlier: bool
) -> None:
    """The program writes its transcript a moment after it has asked the model."""
    await house.start()
    if earlier:
        talk = await house.open("claude", "SCRIPT:hello one")
        await talk.ended()
        await talk.send("SCRIPT:hang remember plum")
    else:
        talk = await house.open("claude", "SCRIPT:hang remember plum")
    pid = await talk.agent_pid()
    await house.model.until(lambda asked: any(one.script == "hang" for one in asked))
    processes.kill(pid)
    run = await talk.ended(within=10)
    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "agent_lost")

    again = await talk.ask("SCRIPT:recall")
    assert (again.status, again.prompt, "plum" in again.text) == ("completed", "SCRIPT:recall", True)
    told, notices = house.model.requests[-1].users, await talk.notices()
    if "SCRIPT:hang remember plum" not in told:
        assert notices == ["context_completed" if earlier else "context_rebuilt"]
        assert told[:-1] == (["SCRIPT:hello one"] if earlier else [])
        assert "SCRIPT:hang remember plum" in told[-1]
    assert (await talk.ask("SCRIPT:hello")).status == "completed"
    assert await talk.notices() == notices


@pytest.mark.real("claude")
async def test_killed_while_a_tool_runs_the_tool_ends_too(house: House) -> None:
    await house.start()
    mark = f"{SLEEP} {house.root}"
    talk = await house.open(
        "claude", f'SCRIPT:bash{{{sys.executable} -c "{SLEEP}" {house.root}}}', mode="full"
    )
    await until(lambda: processes.running(mark))
    processes.kill(await talk.agent_pid())
    run = await talk.ended(within=10)

    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "agent_lost")
    await until(lambda: not processes.running(mark), said="the tool's process has ended")
    assert [item.status for item in await talk.items("command")] == ["interrupted"]
    assert (await talk.ask("SCRIPT:hello")).status == "completed"


@pytest.mark.real("claude")
async def test_killed_with_an_approval_pending_it_expires_and_no_card_is_left(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{touch there}")
    request = await talk.request()
    processes.kill(await talk.agent_pid())
    run = await talk.ended(within=10)

    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "agent_lost")
    assert await house.client.requests() == []
    with pytest.raises(HoldfastError) as refused:
        await house.client.answer(request.id, "accept")
    assert refused.value.code == "expired"
    assert not (house.workspace / "there").exists()
    closed = [event_data(event) for event in await talk.events() if event.type == "request.closed"]
    assert [(data["state"], data["reason"]) for data in closed] == [("expired", "agent_lost")]
    assert (await talk.ask("SCRIPT:hello")).text.endswith("users=2")


async def test_killed_while_no_server_runs_its_last_words_are_in_the_thread(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "slow 20 0.05\nstderr out of luck\ncrash")
    await talk.working()
    pid = await talk.agent_pid()
    await house.kill_server()
    await until(lambda: not processes.lives(pid))
    await house.start()
    run = await talk.ended(within=10)

    assert run.failure is not None
    assert (run.status, run.failure.class_) == ("failed", "agent_lost")
    assert "out of luck" in run.failure.message
    (said,) = await talk.items("assistant_message")
    assert said.text == "".join(f"word{at} " for at in range(1, 21))


async def test_a_queue_behind_a_run_that_failed_is_held_until_it_is_released(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "slow 100 0.05")
    await talk.working()
    first = talk.run_id
    second = await talk.send("remember plum")
    processes.kill(await talk.agent_pid())
    assert (await talk.ended(first)).status == "failed"
    shown = await house.client.thread(talk.id)
    assert (shown.thread.queue_held, shown.runs[1].status) == (True, "queued")

    await house.client.release(talk.id)
    assert (await talk.ended(second)).status == "completed"


async def test_an_agent_that_ignores_everything_is_ended_by_force(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "stubborn\nslow 1000 0.1")
    await talk.working("word2 ")
    pid = await talk.agent_pid()
    await house.client.stop_run(talk.run_id)
    run = await talk.ended(within=25)

    assert (run.status, run.forced) == ("interrupted", True)
    assert not processes.lives(pid)
    assert (await talk.ask("hello")).status == "completed"


async def test_a_stop_goes_on_although_the_server_is_killed_after_it(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "stubborn\nslow 1000 0.1")
    await talk.working("word2 ")
    pid = await talk.agent_pid()
    await house.client.stop_run(talk.run_id)
    await house.restart()
    run = await talk.ended(within=25)
    assert (run.status, run.forced) == ("interrupted", True)
    assert not processes.lives(pid)
