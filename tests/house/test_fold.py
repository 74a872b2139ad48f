"""A late reader sees the same, also across `kill -9`: snapshot plus events from any cut is what the server returns."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from holdfast.client import events
from holdfast.engine import port
from holdfast.wire.api import EventObject, Snapshot
from tests.house.house import House
from tests.house.talk import ENDED, Talk
from tests.simulation.reducer import View

CUTS = 70  # in each of three stories
KILLS = 3

SCRIPTED = """think what shall I do
slow 90 0.03
run echo out; echo more
notice look here
bash echo asked
todo a,>b,+c
question Which?|A|B
slow 90 0.03
say the end"""
CLAUDE = "SCRIPT:chain{bash{echo one};;slow{160,0.03}}"


def folded(view: View, told: events.Event) -> None:
    """The reducer knows the engine's words for what the client gets."""
    match told:
        case events.Text():
            view.take(port.Text(told.item, told.offset, told.text))
        case events.CaughtUp():
            view.take(port.CaughtUp(told.version))
        case events.Resync():
            view.take(port.Resync(told.version))
        case _:
            view.take(told)


async def answers_everything(talk: Talk) -> None:
    """A person who accepts, and takes the first choice."""
    while (await talk.settled()).status not in ENDED:
        for request in await talk.client.requests(thread_id=talk.id):
            chosen = {question.id: [question.options[0].label] for question in request.questions}
            await talk.client.answer(request.id, "" if chosen else "accept", answers=chosen or None)


async def follows(talk: Talk, view: View, after: int | None, least: int) -> None:
    """A reader that stays through everything, until it has seen the run's end."""
    async with asyncio.timeout(60):
        async for told in talk.follow(after):
            folded(view, told)
            run = view.runs.get(talk.run_id)
            if run is not None and run["ended_at"] is not None and view.version >= least:
                return


def shown(snapshot: Snapshot) -> dict[str, Any]:
    whole: dict[str, Any] = msgspec.to_builtins(snapshot)
    del whole["log"]
    return whole


async def _cut_and_kill(house: House, talk: Talk, chance: random.Random) -> list[Snapshot]:
    """Snapshots at moments of chance while the run goes on, and the server killed among them."""
    cuts: list[Snapshot] = []
    kills = sorted(chance.sample(range(5, 30), KILLS))
    while len(cuts) < CUTS:
        if len(cuts) in kills:
            kills.remove(len(cuts))
            await house.kill_server()
            await house.start()
        cuts.append(await talk.client.snapshot(talk.id, items=1000))
        await asyncio.sleep(chance.random() * 0.05)
        if cuts[-1].runs[-1].status in ENDED:
            break
    return cuts


@pytest.mark.parametrize(
    ("agent", "text", "seed"),
    [
        pytest.param("scripted", SCRIPTED, 1, id="scripted-1"),
        pytest.param("scripted", SCRIPTED, 2, id="scripted-2"),
        pytest.param("claude", CLAUDE, 3, id="claude", marks=pytest.mark.real("claude")),
    ],
)
async def test_snapshot_and_events_from_any_cut_are_what_the_server_has(
    house: House, agent: str, text: str, seed: int
) -> None:
    chance = random.Random(seed)
    await house.start()
    talk = await house.open(agent, text)
    from_the_beginning, from_now = View(), View()
    async with asyncio.TaskGroup() as group:
        group.create_task(follows(talk, from_the_beginning, 0, 0))
        group.create_task(follows(talk, from_now, None, 0))
        group.create_task(answers_everything(talk))
        cuts = await _cut_and_kill(house, talk, chance)
    await talk.ended()

    final = shown(await house.client.snapshot(talk.id, items=1000))
    log = await talk.events()
    assert [event.version for event in log] == list(range(1, final["version"] + 1))
    for view in (from_the_beginning, from_now):
        for event in log[view.version :]:
            view.take(event)
        assert view.picture() == final
    assert len(cuts) > 30
    for cut in cuts:
        view = View()
        view.take(cut)
        for event in log[view.version :]:
            view.take(event)
        assert view.picture() == final
    for at in chance.sample(range(len(log)), min(20, len(log))):
        rest = [told for told in await talk.stream(at) if isinstance(told, EventObject)]
        assert rest == log[at:]
