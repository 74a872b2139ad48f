"""A server of another build takes over from a running one: the agents do not notice, and what was open goes on."""

import re
import shutil
from pathlib import Path

import pytest

import holdfast
from tests.house import processes
from tests.house.house import House

SOURCE = Path(holdfast.__file__).parent


def another_build(house: House, changes: dict[str, str]) -> Path:
    """A copy of the code in which the numbers that `changes` names, by file and pattern, are raised by one."""
    copy = house.root / "build"
    shutil.copytree(SOURCE, copy / "holdfast", ignore=shutil.ignore_patterns("__pycache__"))
    for name, pattern in {"__init__.py": r'(__version__ = "\d+\.\d+\.)(\d+)', **changes}.items():
        file = copy / "holdfast" / name
        text, count = re.subn(
            pattern, lambda found: f"{found[1]}{int(found[2]) + 1}", file.read_text(), flags=re.MULTILINE
        )
        assert count == 1, f"{pattern} occurs {count} times in {name}"
        file.write_text(text)
    return copy


RAISED_LINK = {"wire/link.py": r"^(VERSION = )(\d+)$"}
RAISED_TRANSLATORS = {
    "agents/scripted.py": r"^(    translator_version[^=\n]*= )(\d+)$",
    "agents/claude/kind.py": r"^(    translator_version[^=\n]*= )(\d+)$",
}


@pytest.mark.real("claude")
async def test_a_server_with_a_raised_link_version_takes_over_a_turn_and_an_approval(house: House) -> None:
    build = another_build(house, RAISED_LINK)
    await house.start()
    asks = await house.open("claude", "SCRIPT:bash{echo x >> there}")
    streams = await house.open("claude", "SCRIPT:slow{100,0.03}")
    before = await asks.request()
    await streams.working("word3 ")
    pids = await asks.agent_pid(), await streams.agent_pid()
    await house.stop_server()
    await house.start(source=build)

    assert (await house.client.health())["version"] != holdfast.__version__
    (runner,) = await house.client.runners()
    assert (runner.version, runner.connected) == (1, True)
    assert (await asks.agent_pid(), await streams.agent_pid()) == pids
    request = await asks.request()
    assert (request.id, request.state, request.live) == (before.id, "pending", True)
    await house.client.answer(request.id, "accept")
    assert (await asks.ended()).status == "completed"
    assert (house.workspace / "there").read_text() == "x\n"

    await house.stop_server()
    await house.start()
    run = await streams.ended()
    assert run.text == "".join(f"word{at} " for at in range(1, 101)) + "done. users=1"
    assert all(map(processes.lives, pids))


@pytest.mark.real("claude")
async def test_a_changed_translator_folds_its_session_again_and_goes_on_in_the_turn(house: House) -> None:
    build = another_build(house, RAISED_TRANSLATORS)
    await house.start()
    asks = await house.open("claude", "SCRIPT:bash{echo x >> there}")
    streams = await house.open("claude", "SCRIPT:slow{60,0.03}")
    scripted = await house.open("scripted", "remember plum\nslow 100 0.03\nbash echo y >> here")
    before = await asks.request()
    await streams.working("word3 ")
    await scripted.working("word3 ")
    pids = [await talk.agent_pid() for talk in (asks, streams, scripted)]
    await house.kill_server()
    await house.start(source=build)

    found = (await house.ready())["recovery"]
    assert (found["sessions_joined"], found["translators_folded"], found["failed"]) == (3, 3, 0)
    assert (await asks.request()).id == before.id
    await house.client.answer(before.id, "accept")
    assert (await asks.ended()).status == "completed"
    assert (house.workspace / "there").read_text() == "x\n"
    assert (await streams.ended()).text == "".join(f"word{at} " for at in range(1, 61)) + "done. users=1"
    await house.client.answer((await scripted.request()).id, "accept")
    assert (await scripted.ended()).status == "completed"
    texts = [item.text for item in await scripted.items("assistant_message")]
    assert texts == ["I will remember plum.", "".join(f"word{at} " for at in range(1, 101))]
    assert (house.workspace / "here").read_text() == "y\n"
    assert [await talk.agent_pid() for talk in (asks, streams, scripted)] == pids
    assert (await scripted.ask("recall")).text == "I remember: plum. users=2"


async def test_a_server_that_shares_no_link_version_is_refused_in_words(house: House) -> None:
    build = another_build(house, {"wire/link.py": r"^(OLDEST = )(\d+)$"})
    link = build / "holdfast" / "wire" / "link.py"
    link.write_text(re.sub(r"^VERSION = \d+$", "VERSION = 2", link.read_text(), flags=re.MULTILINE))
    await house.start()
    talk = await house.open("scripted", "slow 100 0.05")
    await talk.working()
    pid = await talk.agent_pid()
    await house.stop_server()
    await house.start(source=build)
    assert (await talk.run()).status == "working"
    await house.stop_server()
    assert "upgrade the older of the two" in house.server_log()
    assert processes.lives(pid)
    await house.start()
    assert (await talk.ended()).status == "completed"
