"""What holds after every step of a thread, whatever happened: the invariants of the core, as plain checks.

`step` decides and checks all of them; stories and the Hypothesis machine go through it alone, so that no test can
reach a state that was not checked.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from holdfast.core import commands as c
from holdfast.core import effects as fx
from holdfast.core import events as e
from holdfast.core import state as st
from holdfast.core.decider import decide
from holdfast.core.deciding import Context, Decided
from holdfast.core.evolve import evolve
from holdfast.core.ids import kind_of
from holdfast.core.policies import Limits, deadlines
from holdfast.core.runs import TRANSITIONS
from holdfast.core.state import ThreadState
from holdfast.errors import Rejected

Pair = tuple[str, str]


def step(state: ThreadState, command: c.Command, context: Context) -> Decided:
    """Decide, and check every law. Raises Rejected like `decide`, after checking that a refusal changes nothing."""
    before = st.encode(state)
    try:
        decided = decide(state, command, context)
    except Rejected:
        assert st.encode(state) == before, "a refused command changed the state"
        assert not isinstance(command, NEVER_REFUSED), f"{command} must never be refused"
        raise
    assert st.encode(state) == before, "decide changed the state that it was given"
    again = decide(st.copy(state), msgspec.json.decode(msgspec.json.encode(command), type=c.Command), context)
    assert again == decided, "the same inputs gave another outcome"
    walked(state, decided.events, context.now)
    assert fold(state, decided.events, context.now) == decided.state, "the events do not lead to the state"
    events_are_lawful(decided)
    started = {event.item_id for event in decided.events if isinstance(event, e.ItemStarted)}
    assert all(piece.item_id in started | state.items.keys() and piece.text for piece in decided.pieces)
    effects_are_lawful(decided)
    state_is_lawful(decided.state)
    return decided


NEVER_REFUSED = (
    c.Observe | c.LaunchDone | c.LaunchFailed | c.HistoryRead | c.BindingMeasured | c.TimeUp | c.NoteActivity
    | c.StopThread | c.ReleaseQueue | c.CloseSession
)  # fmt: skip


def fold(state: ThreadState, events: list[e.Event], at: float) -> ThreadState:
    """The events as they come back from the disk, applied to a copy."""
    folded = st.copy(state)
    for event in events:
        evolve(folded, e.decode(e.encode(event)), at)
    return folded


def walked(state: ThreadState, events: list[e.Event], at: float) -> list[Pair]:
    """The pairs of (status, event) along `events`; every one is listed in TRANSITIONS and leads where it says."""
    work = st.copy(state)
    pairs: list[Pair] = []
    for event in events:
        name = e.type_of(event)
        run_id = str(getattr(event, "run_id", ""))
        if not name.startswith("run."):
            evolve(work, event, at)
            continue
        pair = (status_of(work, run_id), name)
        assert pair in TRANSITIONS, f"{pair} is not in the table: {event}"
        evolve(work, event, at)
        assert status_of(work, run_id) == TRANSITIONS[pair], f"{pair} led to {status_of(work, run_id)}"
        if isinstance(event, e.RunEnded):
            left = [item for item in work.items.values() if item.run_id == run_id]
            assert all(item.kind == "subagent" for item in left), f"{run_id} ended with {left} open"
            assert all(request.run_id != run_id for request in work.requests.values())
        pairs.append(pair)
    return pairs


def status_of(state: ThreadState, run_id: str) -> str:
    if run_id in state.runs:
        return state.runs[run_id].status
    return "ended" if number(run_id) <= state.last_run else ""


def number(identity: str) -> int:
    return int(identity.rsplit("_", 1)[1])


def events_are_lawful(decided: Decided) -> None:
    kinds = {"run_id": "run", "item_id": "item", "request_id": "req", "session_id": "ses"}
    for event in decided.events:
        assert e.decode(e.encode(event)) == event
        for field, kind in kinds.items():
            identity = getattr(event, field, "")
            assert not identity or kind_of(identity) == kind, event


def effects_are_lawful(decided: Decided) -> None:
    """Effects name what is there, belong to the living session, and exist once."""
    state = decided.state
    names = [fx.identity(effect) for effect in decided.effects]
    assert len(names) == len(set(names))
    alive = state.session is not None and state.session.stage != "closed"
    for effect in decided.effects:
        assert fx.decode(fx.encode(effect)) == effect
        generation = fx.bound_to(effect)
        assert generation == 0 or (alive and generation == state.generation), effect


def state_is_lawful(s: ThreadState) -> None:
    for broken in breaches(s):
        raise AssertionError(f"{broken}\n{s}")


def breaches(s: ThreadState) -> Iterator[str]:
    if st.decode(st.encode(s)) != s or st.copy(s) != s:
        yield "the snapshot of the state is another state"
    yield from _runs(s)
    yield from _session(s)
    yield from _contents(s)


def _runs(s: ThreadState) -> Iterator[str]:
    users = [run for run in s.runs.values() if run.origin != "agent" and run.status != "queued"]
    if [run.id for run in users] not in ([], [s.active]):
        yield "a user's run is under way and does not hold the thread"
    if s.active and (s.active not in s.runs or s.runs[s.active].status == "queued"):
        yield "the active run is not under way"
    if len(set(s.queue)) != len(s.queue) or set(s.queue) != {
        r.id for r in s.runs.values() if r.status == "queued"
    }:
        yield "the queue is not the queued runs"
    if s.queue and not s.active and not s.held:
        yield "nothing is active, the queue is not held, and its head does not start"
    if s.held and not s.queue:
        yield "an empty queue is held"
    for run in s.runs.values():
        if (run.status == "working") != (run.dispatch == "seen"):
            yield f"{run.id} is {run.status} and {run.dispatch}"
        if run.status == "queued" and (run.dispatch != "unsent" or run.doubt or run.stopping_at or run.turn):
            yield f"{run.id} is queued and carries something of an attempt"
        if run.origin == "agent" and run.status != "working":
            yield f"{run.id} came from the agent and is {run.status}"
        if run.doubt and run.dispatch not in ("taken", "written"):
            yield f"{run.id} is in doubt although its prompt was {run.dispatch}"
        if number(run.id) != run.ordinal or run.ordinal > s.last_run:
            yield f"{run.id} has the ordinal {run.ordinal}"


def _session(s: ThreadState) -> Iterator[str]:
    live = s.session is not None and s.session.stage != "closed"
    if s.session is not None and s.session.generation != s.generation:
        yield "the session is not of the newest generation"
    for run in s.runs.values():
        if run.status != "queued" and not live and run.doubt is None:
            yield f"{run.id} is {run.status}, without a session and without doubt"
        if live and run.doubt is not None:
            yield f"{run.id} is in doubt although its thread has a session"
    if not live and (s.items or s.requests or s.turns or s.refs or s.grants):
        yield "something of the session outlived it"
    if len(s.refs) > 1000 or len(s.closed_requests) > 100:
        yield "the state grows with the thread"


def _contents(s: ThreadState) -> Iterator[str]:
    for request in s.requests.values():
        run = s.runs.get(request.run_id)
        if run is None or run.status != "working":
            yield f"{request.id} is open although its run is not under way"
        elif run.stopping_at and request.decision is None:
            yield f"{request.id} waits for a person although its run is stopping"
        if request.generation != s.generation:
            yield f"{request.id} is of an older session"
    if {q.id for q in s.requests.values()} & {q.id for q in s.closed_requests}:
        yield "a request is open and closed"
    for turn, run_id in s.turns.items():
        if run_id not in s.runs or not turn:
            yield f"turn {turn!r} belongs to {run_id}, which is not under way"


def due(state: ThreadState, limits: Limits, last_frame_at: float) -> list[tuple[float, c.TimeUp]]:
    """The deadlines, earliest first."""
    return sorted(deadlines(state, limits, last_frame_at), key=lambda x: (x[0], x[1].what, x[1].run_id))
