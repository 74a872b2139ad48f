"""A prompt on its way: server or runner killed at each step, the agent gets it once, or the thread says that it is open.

The faults are those of `holdfast.faults`: the process ends itself by SIGKILL at that very step.
"""

import contextlib
import json
import signal

import pytest

from holdfast.errors import HoldfastError
from holdfast.wire.api import RunObject
from tests.house.house import House
from tests.house.processes import eventually, until
from tests.house.talk import Talk

# What a server passes from the POST that opens a thread to the prompt's acknowledgement; `:N` is the Nth passage.
SERVER = [
    "engine.commit.decided", "engine.commit.decided:2", "engine.commit.decided:3", "engine.commit.decided:4",
    "engine.commit.done", "engine.commit.done:2", "engine.commit.done:3", "engine.commit.done:4",
    "engine.commit.published", "engine.commit.published:2", "engine.commit.published:3",
    "engine.session.opened", "engine.session.adopted", "engine.frames.consumed", "engine.frames.consumed:2",
    "engine.write.sent", "engine.write.sent:2",
    "store.commit.before_fsync", "store.commit.before_fsync:2", "store.commit.after:2", "store.commit.after:3",
]  # fmt: skip

# The second write to the agent carries the prompt; the first is the handshake.
RUNNER = ["runner.write.received:2", "runner.write.half:2", "runner.write.done:2"]
RUNNER_BEFORE = [
    "runner.open.spawned",
    "runner.write.received",
    "runner.write.done",
    "runner.record.appended:3",
]

KEY = "the-first"


async def _opened(house: House, agent: str, text: str) -> Talk:
    """Opens a thread, however often the server dies over it: the same key each time."""

    async def once() -> Talk:
        async with house.impatient() as client:
            created = await client.create_thread(agent, str(house.workspace), message=text, key=KEY)
        assert created.run is not None
        return Talk(house, created.thread.id, created.run.id)

    with contextlib.suppress(HoldfastError):
        await once()
    await house.server_ended()
    await house.start()
    again = await once()
    assert len((await house.client.threads()).threads) == 1
    return again


def _scripted_prompts(house: House, text: str) -> int:
    """How often the scripted agent's own history has the prompt."""
    notes = [
        json.loads(line)
        for path in (house.user / ".holdfast-scripted").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    return sum(1 for note in notes if "prompt" in note and note["text"] == text)


def _claude_prompts(house: House, text: str) -> int:
    """How many turns the model was asked for with the prompt as its last message."""
    return sum(1 for asked in house.model.requests if asked.users[-1:] == [text] and not asked.results)


def _check(run: RunObject, prompts: int) -> None:
    """What the thread says agrees with what the agent got."""
    if run.status == "completed":
        assert prompts == 1
        return
    assert (run.status, prompts <= 1) == ("failed", True)
    assert run.failure is not None
    assert run.failure.class_ in ("unknown_outcome", "runner_lost")
    assert run.failure.message


@pytest.mark.parametrize("fault", SERVER)
async def test_a_server_killed_on_the_way_of_a_prompt_dispatches_it_once(house: House, fault: str) -> None:
    await house.start(fault=fault)
    talk = await _opened(house, "scripted", "remember plum")
    run = await talk.ended()

    assert (run.status, run.attempts, run.failure) == ("completed", 1, None)
    assert _scripted_prompts(house, "remember plum") == 1
    assert (await talk.ask("recall")).text == "I remember: plum. users=2"


@pytest.mark.real("claude")
@pytest.mark.parametrize(
    "fault",
    ["engine.commit.done", "engine.session.opened", "engine.session.adopted", "engine.write.sent:2"],
)
async def test_a_server_killed_on_the_way_of_a_prompt_to_claude_dispatches_it_once(
    house: House, fault: str
) -> None:
    await house.start(fault=fault)
    talk = await _opened(house, "claude", "SCRIPT:hello remember plum")
    run = await talk.ended()

    assert (run.status, run.attempts, run.failure) == ("completed", 1, None)
    assert _claude_prompts(house, "SCRIPT:hello remember plum") == 1
    assert (await talk.ask("SCRIPT:recall")).text.endswith("users=2")


@pytest.mark.parametrize("fault", RUNNER_BEFORE + RUNNER)
async def test_a_runner_killed_on_the_way_of_a_prompt_dispatches_it_once(house: House, fault: str) -> None:
    await house.start(fault=fault, env={"HOLDFAST_FAULT_ONCE": str(house.root / "once")})
    talk = await house.open("scripted", "remember plum")
    run = await talk.ended()

    assert (house.root / "once").exists()
    _check(run, _scripted_prompts(house, "remember plum"))
    if fault in RUNNER_BEFORE:
        assert run.status == "completed"
    assert (await talk.ask("hello")).status == "completed"


@pytest.mark.real("claude")
@pytest.mark.parametrize("fault", RUNNER)
async def test_a_runner_killed_on_the_way_of_a_prompt_to_claude_dispatches_it_once(
    house: House, fault: str
) -> None:
    await house.start(fault=fault, env={"HOLDFAST_FAULT_ONCE": str(house.root / "once")})
    talk = await house.open("claude", "SCRIPT:hello remember plum")
    run = await talk.ended()

    assert (house.root / "once").exists()
    _check(run, _claude_prompts(house, "SCRIPT:hello remember plum"))
    assert (await talk.ask("SCRIPT:recall")).status == "completed"


@pytest.mark.parametrize("fault", ["runner.write.received:2", "runner.write.done:2"])
async def test_server_and_runner_killed_on_the_way_of_a_prompt_dispatch_it_once(
    house: House, fault: str
) -> None:
    """The runner dies at the step, and the server before it can do anything about it."""
    await house.start(fault=fault, env={"HOLDFAST_FAULT_ONCE": str(house.root / "once")})
    talk = await house.open("scripted", "remember plum")
    await until((house.root / "once").exists)
    await house.restart()
    run = await talk.ended()
    _check(run, _scripted_prompts(house, "remember plum"))
    assert (await talk.ask("hello")).status == "completed"


@pytest.mark.parametrize("word", ["lost", "unseen"])
async def test_an_agent_that_dies_over_a_prompt_is_asked_for_its_history(house: House, word: str) -> None:
    """`lost`: before it noted the prompt, which is then sent once more; `unseen`: after, which is a failure."""
    await house.start()
    talk = await house.open("scripted", f"{word}\nsay done")
    run = await talk.ended()
    if word == "lost":
        assert (run.status, run.text, run.attempts) == ("completed", "done", 2)
    else:
        assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "agent_lost")
    assert _scripted_prompts(house, f"{word}\nsay done") == 1


@pytest.mark.parametrize(
    "fault",
    [
        "http.command_read",
        "engine.commit.decided",
        "store.commit.before_fsync",
        "store.commit.after",
        "engine.commit.published",
        "engine.write.sent",
        "engine.frames.consumed",
    ],
)
async def test_a_server_killed_on_the_way_of_an_answer_delivers_it_once(house: House, fault: str) -> None:
    await house.start()
    talk = await house.open("scripted", "bash echo x >> there\nbash echo y >> there")
    request = await talk.request()
    await house.stop_server()
    await house.start(fault=fault)
    await house.ready()
    with contextlib.suppress(HoldfastError):
        async with house.impatient() as client:
            await client.answer(request.id, "accept", key="answer")
    assert await house.server_ended() == -signal.SIGKILL
    await house.start()
    answered = await house.client.answer(request.id, "accept", key="answer")
    assert answered.decision == "accept"

    async def next_one() -> bool:
        return [q.id for q in await house.client.requests()] not in ([], [request.id])

    await eventually(next_one)
    assert (house.workspace / "there").read_text() == "x\n"
    await house.client.answer((await talk.request()).id, "decline")
    assert (await talk.ended()).status == "completed"
    assert (house.workspace / "there").read_text() == "x\n"


@pytest.mark.parametrize("fault", ["runner.write.received:3", "runner.write.done:3"])
async def test_a_runner_killed_on_the_way_of_an_answer_leaves_no_card(house: House, fault: str) -> None:
    await house.start(fault=fault, env={"HOLDFAST_FAULT_ONCE": str(house.root / "once")})
    talk = await house.open("scripted", "bash echo x >> there\nsleep 600")
    await house.client.answer((await talk.request()).id, "accept")
    run = await talk.ended()

    assert (run.status, run.failure.class_ if run.failure else "") == ("failed", "runner_lost")
    shown = await house.client.snapshot(talk.id)
    assert (shown.requests, shown.thread.status) == ([], "failed")
    there = house.workspace / "there"
    assert not there.exists() or there.read_text() == "x\n"
