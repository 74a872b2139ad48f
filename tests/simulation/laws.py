"""What must hold in every world, whatever struck it: the promises as checks of what people, agents and journals know.

Each law reads the store, the journals, the native histories and the people's ledger, never the engine's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.ids import reference, stream_of
from holdfast.errors import HoldfastError, Rejected
from holdfast.wire.api import RunObject, Snapshot, rfc3339
from holdfast.wire.link import Record
from tests.simulation import times
from tests.simulation.reducer import View

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDED = ("completed", "failed", "interrupted", "cancelled")


async def everything_holds(world: World) -> None:
    known = {thread.id for thread in await world.store.threads(None)}
    assert known == set(world.people.threads), f"{known} are there, {world.people.threads} were opened"
    pictures = {thread: await _picture(world, thread) for thread in world.people.threads}
    for thread, picture in pictures.items():
        no_run_is_left(picture)
        no_card_is_dead(picture)
        await versions_have_no_gap(world, thread, picture)
        await endings_are_kept(world, thread, picture)
        await text_is_whole(world, thread, picture)
        await times.runs_end_in_time(world, thread)
        await times.only_what_stalls_is_ended(world, thread)
        times.failures_have_causes(world, picture)
    no_input_is_lost(world, pictures)
    nothing_is_said_twice(world)
    answers_are_the_agents(world, pictures)
    await decisions_are_delivered_once(world)
    await receipts_are_the_same(world)
    await readers_see_the_same(world)
    journals_say_what_was_read(world)
    await nothing_is_left(world)
    assert not (faults := await world.store.check()), f"the views are not what the log says: {faults[0]}"


async def _picture(world: World, thread: str) -> Snapshot:
    picture = await world.store.snapshot(thread, items=1000)
    assert picture is not None, f"{thread} was accepted and is gone"
    return picture


def no_run_is_left(picture: Snapshot) -> None:
    for run in picture.runs:
        assert run.status in ENDED, f"{run.id} is {run.status} for ever"
    assert all(item.status != "open" for item in picture.items if item.kind != "subagent"), (
        "an item is open for ever"
    )


def no_card_is_dead(picture: Snapshot) -> None:
    assert not picture.requests, f"{picture.requests[0]} waits, and no run does"


async def versions_have_no_gap(world: World, thread: str, picture: Snapshot) -> None:
    events = await world.store.events(stream_of(thread), after=0, limit=1000)
    while len(events) < picture.version:
        more = await world.store.events(stream_of(thread), after=events[-1].version, limit=1000)
        assert more, f"{thread} has {len(events)} events, and version {picture.version}"
        events += more
    assert [event.version for event in events] == list(range(1, picture.version + 1)), "versions have a gap"
    ends = Counter(msgspec.json.decode(e.data)["run_id"] for e in events if e.type == "run.ended")
    assert set(ends.values()) <= {1}, f"a run ended twice: {ends}"
    view = View()
    for event in events:
        view.take(event)
    same(view.picture(), picture, "the log folded from its beginning")


def no_input_is_lost(world: World, pictures: dict[str, Snapshot]) -> None:
    runs = {run.id: run for picture in pictures.values() for run in picture.runs}
    for run_id, prompt in world.people.prompts.items():
        assert run_id in runs, f"{run_id} was accepted and is gone"
        assert runs[run_id].prompt == prompt, f"{run_id} has another prompt than was sent"
    asked = [run.id for run in runs.values() if run.origin == "user"]
    assert set(asked) == set(world.people.prompts), "there are runs that nobody sent"


def nothing_is_said_twice(world: World) -> None:
    """Each prompt is at most once in the native histories: a prompt that comes twice is noted twice."""
    said = Counter(note["prompt"] for note in world.host.histories.notes("prompt"))
    twice = [prompt for prompt, count in said.items() if count > 1]
    assert not twice, f"prompt {twice} was run twice"
    for session, journal in world.host.journals.journals.items():
        writes = Counter(r.id for r in world.host.journals.records(session) if r.kind == "in")
        assert set(writes.values()) <= {1}, f"{session} was written to twice: {writes}"
        assert journal.last == len(journal.records), session


def answers_are_the_agents(world: World, pictures: dict[str, Snapshot]) -> None:
    """What an agent ended before our eyes ended so here, and a completed run has the text that was said last."""
    told = {note["answer"]: note for note in world.host.histories.notes("answer")}
    for picture in pictures.values():
        for run in picture.runs:
            note = told.get(reference(run.id))
            if run.origin == "user" and run.status == "completed":
                assert note is not None, f"{run.id} is completed, and its agent knows nothing of it"
                assert note["status"] == "completed", (
                    f"{run.id} is completed, and its agent says {note['status']}"
                )
                assert run.text == note["text"], (
                    f"{run.id} says {run.text!r}, its agent said {note['text']!r}"
                )


async def endings_are_kept(world: World, thread: str, picture: Snapshot) -> None:
    """A turn whose end was read from the agent ended so in the thread, unless we had ended its run before."""
    if world.counts["translator raised"]:
        return
    unheard = world.plan.cut_off is not None or world.plan.unreachable > 0
    runs = {reference(run.id): run for run in picture.runs}
    for row in await world.store.sessions(thread):
        for prompt, status, at in _ended_turns(list(world.host.journals.records(row.session))):
            run = runs[prompt]
            limited = status == "interrupted" and run.failure is not None and run.failure.class_ == "stalled"
            limited = limited or (status == "failed" and run.status == "interrupted")  # it was stopped
            before = run.forced and (unheard or str(run.ended_at) <= rfc3339(at))
            assert run.status == status or limited or before, (
                f"{run.id} is {run.status}, its agent told: {status}"
            )


def _ended_turns(records: list[Record]) -> Iterator[tuple[str, str, float]]:
    """Prompt, status and time of the end of each turn of a person's."""
    prompts: dict[str, str] = {}
    for frame, at in _frames(records):
        if frame.get("type") == "turn.started":
            prompts[frame["turn"]] = frame["prompt"]
        elif frame.get("type") == "turn.ended" and prompts[frame["turn"]]:
            yield prompts[frame["turn"]], frame["status"], at


def _frames(records: list[Record]) -> Iterator[tuple[dict[str, Any], float]]:
    for record in records:
        if record.kind == "out":
            with contextlib.suppress(ValueError):
                yield json.loads(record.data), record.at


async def text_is_whole(world: World, thread: str, picture: Snapshot) -> None:
    """Every piece of text that a runner has read is in the thread."""
    if world.counts["translator raised"]:
        return
    said: list[str] = []
    for row in await world.store.sessions(thread):
        said += _texts(list(world.host.journals.records(row.session)))
    shown = [item.text for item in picture.items if item.kind == "assistant_message"]
    if any(
        run.forced for run in picture.runs
    ):  # what came after we had ended the run is in the journal alone
        said = [text[: len(seen)] for text, seen in zip(said, shown, strict=True)]
    assert shown == said, f"{thread} shows {shown}, and was told {said}"


def _texts(records: list[Record]) -> list[str]:
    texts: dict[str, list[str]] = {}
    turn = ""
    for frame, _ in _frames(records):
        kind = frame.get("type")
        if kind == "turn.started":
            turn = frame["turn"]
        elif kind == "turn.ended":
            turn = ""
        elif kind == "text" and turn:
            texts.setdefault(frame["item"], []).append(frame["delta"])
        elif kind == "text.done" and turn:
            texts.setdefault(frame["item"], [])
    return ["".join(pieces) for pieces in texts.values()]


async def decisions_are_delivered_once(world: World) -> None:
    requests = {q.id: q for q in await world.store.requests(None, pending=False)}
    for request_id, decisions in world.people.decided.items():
        assert len(set(decisions)) == 1, f"{request_id}: two different answers were accepted: {decisions}"
        request = requests[request_id]
        assert request.decision == decisions[0], (
            f"{request_id} was answered {decisions[0]}, and has {request.decision}"
        )
    for thread in world.people.threads:
        refs = await _refs(world, thread)
        for row in await world.store.sessions(thread):
            for record in world.host.journals.records(row.session):
                if record.kind == "in" and record.id.startswith("answer"):
                    frame = json.loads(record.data)
                    request = requests[refs[row.generation, frame["request"]]]
                    decided = "accept" if request.decision == "accept" else request.decision
                    assert frame["decision"] == decided, (
                        f"{request.id}: told {frame}, decided {request.decision}"
                    )
                    assert request.state == "delivered" or request.reason, (
                        f"{request.id} was delivered: {request}"
                    )


async def _refs(world: World, thread: str) -> dict[tuple[int, str], str]:
    """(generation, native reference) -> request."""
    found: dict[tuple[int, str], str] = {}
    after = 0
    while events := await world.store.events(stream_of(thread), after=after, limit=1000):
        for event in events:
            if event.type == "request.opened":
                data = msgspec.json.decode(event.data)
                found[data["generation"], data["ref"]] = data["request_id"]
        after = events[-1].version
    return found


async def receipts_are_the_same(world: World) -> None:
    """The same key and content give the same answer, byte for byte."""
    assert world.server is not None, "no server lives"
    for command in world.people.commands:
        try:
            answer: bytes | None = await world.server.ask(command.call)
            code = ""
        except Rejected as refusal:
            answer, code = None, refusal.code
        except HoldfastError as error:
            raise AssertionError(
                f"{command.what} {command.key} is answered with {error.code} the second time"
            ) from error
        if command.answer is None and world.plan.store_full is not None:
            continue  # a refusal that could not be stored left its key usable
        assert (answer, code) == (command.answer, command.code), (
            f"{command.what} {command.key} has another answer now"
        )


async def readers_see_the_same(world: World) -> None:
    """Every reader gets to the head, and sees there what the server has."""
    for thread, view in world.people.views:
        picture = await _picture(world, thread)
        for _ in range(60):
            if view.version == picture.version:
                break
            await asyncio.sleep(0.5)
            picture = await _picture(world, thread)
        assert view.version == picture.version, (
            f"a reader of {thread} stays at {view.version} of {picture.version}"
        )
        same(view.picture(), picture, f"a reader of {thread}")


def same(seen: dict[str, Any], picture: Snapshot, who: str) -> None:
    """Field by field; a reader that began with a snapshot knows the newest items only."""
    whole = msgspec.to_builtins(picture)
    first = min((item["ordinal"] for item in seen["items"]), default=0)
    whole["items"] = [item for item in whole["items"] if item["ordinal"] >= first]
    for part in ("version", "thread", "requests"):
        assert seen[part] == whole[part], f"{who}: {part} is {seen[part]}, the server has {whole[part]}"
    for part in ("runs", "items"):
        for mine, theirs in zip(seen[part], whole[part], strict=True):
            differing = {key: (mine[key], theirs[key]) for key in theirs if mine.get(key) != theirs[key]}
            assert not differing, f"{who}: {mine['id']} differs (mine, the server's): {differing}"


def journals_say_what_was_read(world: World) -> None:
    """What an agent has read is in the journal as written, in that order; only a runner's death may cut off the last."""
    for process in world.host.spawner.processes:
        records = world.host.journals.records(process.mark.partition(".")[2])
        written = [record.data for record in records if record.kind == "in"]
        missing = process.read[len(written) :]
        assert process.read[: len(written)] == written, (
            f"{process.mark} has read {process.read}, noted are {written}"
        )
        assert not missing or world.host.runner_died_at, (
            f"{process.mark} has read {missing}, and nobody knows"
        )


async def nothing_is_left(world: World) -> None:
    """After the idle time no process lives, no session is open, and nothing waits to be done."""
    for _ in range(400):
        if not world.host.spawner.alive():
            break
        await asyncio.sleep(1)
    await asyncio.sleep(10)
    alive = [process.mark for process in world.host.spawner.alive()]
    assert not alive, f"{alive} live on, and no session is theirs"
    for thread in world.people.threads:
        loaded = await world.store.load(stream_of(thread))
        assert not loaded.effects, f"{thread} still wants {loaded.effects}"
        assert not loaded.writes, f"{thread} still writes {loaded.writes}"
        for row in await world.store.sessions(thread):
            assert not row.open, f"{row.session} is open for ever"


async def nothing_hangs_on(sessions: set[str], world: World) -> None:
    """No run is still with a session whose process ended 30 s ago."""
    for thread in world.people.threads:
        loaded = await world.store.load(stream_of(thread))
        session = loaded.session
        if session is not None and session.open:
            assert session.session not in sessions, f"{session.session} is open, and its agent died 30 s ago"


async def unsettled(world: World) -> str:
    lines: list[str] = []
    for thread in world.people.threads:
        picture = await world.store.snapshot(thread)
        loaded = await world.store.load(stream_of(thread))
        runs: list[RunObject] = [run for run in picture.runs if run.ended_at is None] if picture else []
        lines += [f"{run.id} is {run.status} and never ends" for run in runs]
        if runs:
            lines.append(f"session {loaded.session}; effects {loaded.effects}; writes {loaded.writes}")
            lines.append(str(loaded.snapshot))
    return "\n".join(lines)
