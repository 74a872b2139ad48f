"""The server is killed and restarted: agents do not notice, and nothing is lost or done twice."""

import signal

import pytest

from holdfast.errors import HoldfastError
from tests.house import processes
from tests.house.house import House
from tests.house.processes import eventually, until

WITH_RESTART = {"HOLDFAST_NO_RESTART": ""}


def slow_text(count: int) -> str:
    return "".join(f"word{at} " for at in range(1, count + 1))


@pytest.mark.real("claude")
async def test_a_streaming_turn_survives_kill_9_whole_to_the_last_token(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:slow{60,0.03}")
    await talk.working("word5 ")
    pid = await talk.agent_pid()
    await house.kill_server()
    assert processes.lives(pid)
    await house.start()
    await talk.working("word15 ")
    assert await talk.agent_pid() == pid
    await house.restart()
    run = await talk.ended()

    assert (run.status, run.attempts, run.text) == ("completed", 1, slow_text(60) + "done. users=1")
    assert await talk.agent_pid() == pid
    assert [asked.users for asked in house.model.requests] == [["SCRIPT:slow{60,0.03}"]]
    assert (await talk.ask("SCRIPT:hello")).text.endswith("users=2")


@pytest.mark.real("claude")
async def test_a_pending_approval_survives_kill_9_and_is_delivered_once(house: House) -> None:
    await house.start()
    talk = await house.open("claude", "SCRIPT:bash{echo x >> there}")
    before = await talk.request()
    pid = await talk.agent_pid()
    await house.restart()
    await house.ready()

    request = await talk.request()
    assert (request.id, request.state, request.live) == (before.id, "pending", True)
    assert (await talk.run()).status == "waiting"
    await house.client.answer(request.id, "accept")
    await house.restart()
    run = await talk.ended()
    assert run.status == "completed"
    assert await talk.agent_pid() == pid
    assert (house.workspace / "there").read_text() == "x\n"
    assert [len(asked.results) for asked in house.model.requests] == [0, 1]
    states = [event.type for event in await talk.events() if event.type.startswith("request.")]
    assert states == ["request.opened", "request.answered", "request.delivered"]


async def test_an_approval_answered_while_no_server_can_deliver_it_is_delivered_once(house: House) -> None:
    """The server dies with the answer on disk and nothing told to the runner."""
    await house.start()
    talk = await house.open("scripted", "bash echo x >> there")
    request = await talk.request()
    await house.kill_server()
    await house.start(fault="engine.commit.done")
    await house.ready()
    with pytest.raises(HoldfastError):
        async with house.impatient() as client:
            await client.answer(request.id, "accept", key="one")
    await house.server_ended()
    await house.start()
    run = await talk.ended()

    assert run.status == "completed"
    assert (house.workspace / "there").read_text() == "x\n"
    answered = await house.client.answer(request.id, "accept", key="one")
    assert answered.decision == "accept"
    with pytest.raises(HoldfastError) as refused:
        await house.client.answer(request.id, "decline", key="two")
    assert refused.value.code == "already_answered"


async def test_a_server_that_died_is_started_again_by_the_runner(house: House) -> None:
    await house.start(env=WITH_RESTART)
    talk = await house.open("scripted", "slow 40 0.05")
    await talk.working("word3 ")
    pid, dead = await talk.agent_pid(), house.info()
    await house.kill_server()
    await until(lambda: (info := house.home.server()) is not None and info.pid != dead.pid)

    again = house.info()
    assert again.restarted
    assert (await talk.ended()).text == slow_text(40)
    assert await talk.agent_pid() == pid
    code, out, err = await house.cli("serve", "--stop", "--json")
    assert (code, f'"pid":{again.pid}' in out.decode()) == (0, True), err
    assert not processes.lives(again.pid)


async def test_serving_by_hand_right_after_kill_9_wins_over_the_restart(house: House) -> None:
    await house.start(env=WITH_RESTART)
    talk = await house.open("scripted", "slow 80 0.05")
    await talk.working("word3 ")
    await house.kill_server()
    mine = await house.start(env=WITH_RESTART)
    assert (await talk.ended()).status == "completed"
    assert house.info().pid == mine
    assert house.servers() == [mine]


async def test_serving_by_hand_takes_over_from_a_server_that_was_restarted(house: House) -> None:
    await house.start(env=WITH_RESTART)
    talk = await house.open("scripted", "slow 60 0.1")
    await talk.working("word3 ")
    dead = house.info().pid
    await house.kill_server()
    await until(lambda: (info := house.home.server()) is not None and info.pid != dead)
    mine = await house.start(env=WITH_RESTART)
    assert (await talk.ended()).status == "completed"
    assert house.info().pid == mine
    assert house.servers() == [mine]


async def test_the_runner_has_no_descriptor_on_the_database(house: House) -> None:
    await house.start()
    talk = await house.open("scripted", "slow 100 0.1")
    await talk.working()
    database = str(house.home.db_path)
    assert house.server is not None
    assert any(name.startswith(database) for name in processes.open_files(house.server.pid))
    for pid in (house.runner_pid(), await talk.agent_pid()):
        held = processes.open_files(pid)
        assert held
        assert [name for name in held if name.startswith(database)] == []


async def test_an_agent_that_floods_without_a_server_is_held_back_and_loses_nothing(house: House) -> None:
    size, bound = 60_000_000, 4
    house.configure(limits={"journal_mb": bound})
    await house.start()
    talk = await house.open("scripted", f"slow 20 0.1\nflood {size} 4096\nsay end")
    await talk.working()
    pid, runner = await talk.agent_pid(), house.runner_pid()
    await house.stop_server()
    before = processes.resident_bytes(runner)

    async def blocked() -> bool:
        (session,) = await house.runner_sessions()
        return bool(session["blocked"])

    await eventually(blocked)
    assert processes.lives(pid)
    journals = sum(path.stat().st_size for path in house.journals() if path.is_file())
    assert bound * 1_000_000 < journals < 2 * bound * 1_048_576
    grown = processes.resident_bytes(runner) - before
    assert grown < 8 * 1_048_576, f"the runner grew by {grown} bytes"

    await house.start()
    run = await talk.ended(within=60)
    assert run.status == "completed"
    assert processes.resident_bytes(runner) - before < 24 * 1_048_576
    texts = [item.text for item in await talk.items("assistant_message")]
    assert texts[::2] == [slow_text(20), "end"]
    assert len(texts[1]) == size
    numbers = texts[1][: size // 4096 * 4096]
    assert all(int(numbers[at * 4096 : (at + 1) * 4096]) == at for at in range(size // 4096))
    assert "reading_blocked" in await talk.notices()


@pytest.mark.parametrize(
    "fault",
    [
        "http.command_read",
        "engine.commit.decided",
        "store.commit.before_fsync",
        "store.commit.after",
        "engine.commit.done",
        "http.command_done",
    ],
)
async def test_a_post_whose_answer_was_cut_off_can_be_repeated_and_makes_one_run(
    house: House, fault: str
) -> None:
    await house.start()
    talk = await house.open("scripted", "hello")
    await talk.ended()
    await house.stop_server()
    await house.start(fault=fault)
    await house.ready()
    with pytest.raises(HoldfastError) as cut_off:
        async with house.impatient() as client:
            await client.send(talk.id, "remember plum", key="the-same")
    assert cut_off.value.code == "unreachable"
    assert await house.server_ended() == -signal.SIGKILL
    await house.start()

    one = await house.client.send(talk.id, "remember plum", key="the-same")
    two = await house.client.send(talk.id, "remember plum", key="the-same")
    assert (one.id, one.command_id) == (two.id, "the-same")
    run = await talk.ended(one.id)
    assert run.status == "completed"
    shown = await house.client.thread(talk.id)
    assert [run.ordinal for run in shown.runs] == [1, 2]
    with pytest.raises(HoldfastError) as other:
        await house.client.send(talk.id, "remember pear", key="the-same")
    assert other.value.code == "idempotency_conflict"
    assert (await talk.ask("recall")).text == "I remember: plum. users=3"


@pytest.mark.parametrize(
    "fault",
    ["engine.recovery.thread", "engine.frames.consumed", "store.commit.after:3", "engine.commit.decided:2"],
)
async def test_a_server_killed_again_while_it_recovers_loses_nothing(house: House, fault: str) -> None:
    await house.start()
    streams = await house.open("scripted", "slow 60 0.03")
    asks = await house.open("scripted", "bash echo x >> there")
    await streams.working()
    request = await asks.request()
    await house.kill_server()
    house.server = house.spawn(fault=fault)
    assert await house.server_ended() == -signal.SIGKILL
    await house.start()

    assert (await streams.ended()).text == slow_text(60)
    assert (await asks.request()).id == request.id
    await house.client.answer(request.id, "accept")
    assert (await asks.ended()).status == "completed"
    assert (house.workspace / "there").read_text() == "x\n"
