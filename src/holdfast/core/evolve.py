"""How an event changes a thread's state: one function per event, total and without decisions.

`evolve` changes the state that it is given (the caller owns it; `state.copy` makes another) and returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from holdfast.core import events as e
from holdfast.core.state import (
    BindingState,
    ClosedRequest,
    OpenItem,
    RequestState,
    RunState,
    SessionState,
    ThreadState,
)

CLOSED_REQUESTS_MAX: Final = 100
"""A second answer that comes later than a hundred requests is told `expired` without the first decision."""

PAST_TURNS_MAX: Final = 100
REFS_MAX: Final = 300
"""Native references of this session that are kept, besides those of open items."""


def evolve(state: ThreadState, event: e.Event, at: float) -> ThreadState:
    """Apply an event that happened at `at` (unix seconds)."""
    EVOLVE[type(event)](state, event, at)
    state.version += 1
    return state


def fold(state: ThreadState, events: Iterable[tuple[e.Event, float]]) -> ThreadState:
    """Apply events in order."""
    for event, at in events:
        evolve(state, event, at)
    return state


def _thread_created(s: ThreadState, ev: e.ThreadCreated, at: float) -> None:
    s.id, s.owner, s.cwd, s.add_dirs = ev.thread_id, ev.owner, ev.cwd, list(ev.add_dirs)
    s.agent, s.kind, s.model, s.effort = ev.agent, ev.kind, ev.model, ev.effort
    s.mode, s.plan, s.titled = ev.mode, ev.plan, bool(ev.title)


def _thread_titled(s: ThreadState, ev: e.ThreadTitled, at: float) -> None:
    s.titled = True


def _run_queued(s: ThreadState, ev: e.RunQueued, at: float) -> None:
    s.last_run = ev.ordinal
    s.runs[ev.run_id] = RunState(ev.run_id, ev.ordinal, ev.origin, ev.prompt_ref)
    if ev.origin != "agent":
        s.queue.append(ev.run_id)


def _run_starting(s: ThreadState, ev: e.RunStarting, at: float) -> None:
    run = s.runs[ev.run_id]
    if run.id in s.queue:
        s.queue.remove(run.id)
    if run.origin != "agent" or not s.active:
        s.active = run.id
    run.status, run.attempt, run.dispatch, run.turn = "starting", ev.attempt, "unsent", ""
    run.started_at = run.started_at or at
    run.active_at = run.stage_at = at
    if ev.item_id:
        run.item_id, s.last_item = ev.item_id, ev.item_ordinal


def _run_dispatched(s: ThreadState, ev: e.RunDispatched, at: float) -> None:
    run = s.runs[ev.run_id]
    run.dispatch, run.stage_at, run.active_at = ev.stage, at, at


def _run_working(s: ThreadState, ev: e.RunWorking, at: float) -> None:
    run = s.runs[ev.run_id]
    if run.dispatch != "seen":
        run.stage_at = at
    run.status, run.dispatch, run.active_at, run.stalled = "working", "seen", at, False
    if s.session is not None and run.origin != "agent":
        s.session.rebuild, s.session.missed = False, []
    if ev.turn:
        run.turn = ev.turn
        s.turns[ev.turn] = run.id


def _run_active(s: ThreadState, ev: e.RunActive, at: float) -> None:
    run = s.runs[ev.run_id]
    run.active_at, run.stalled = at, False


def _run_stalled(s: ThreadState, ev: e.RunStalled, at: float) -> None:
    s.runs[ev.run_id].stalled = True


def _run_requeued(s: ThreadState, ev: e.RunRequeued, at: float) -> None:
    run = s.runs[ev.run_id]
    run.status, run.dispatch, run.turn, run.doubt = "queued", "unsent", "", None
    run.restarts += 1
    run.active_at = run.stage_at = at
    s.queue.insert(0, run.id)
    if s.active == run.id:
        s.active = ""


def _run_doubtful(s: ThreadState, ev: e.RunDoubtful, at: float) -> None:
    run = s.runs[ev.run_id]
    run.doubt, run.stage_at, run.active_at = ev.failure, at, at


def _run_stopping(s: ThreadState, ev: e.RunStopping, at: float) -> None:
    run = s.runs[ev.run_id]
    run.stopping_at, run.ending, run.active_at = at, ev.failure, at


def _run_ended(s: ThreadState, ev: e.RunEnded, at: float) -> None:
    run = s.runs.pop(ev.run_id)
    for turn in [turn for turn, owner in s.turns.items() if owner == run.id]:
        del s.turns[turn]
        s.past_turns[turn] = (run.id, run.attempt)
    for turn in list(s.past_turns)[:-PAST_TURNS_MAX]:
        del s.past_turns[turn]
    if run.id in s.queue:
        s.queue.remove(run.id)
    if s.active == run.id:
        s.active = ""
    if run.dispatch != "unsent":
        s.has_history = True
    if s.session is not None:
        s.session.idle_since = at


def _queue_held(s: ThreadState, ev: e.QueueHeld, at: float) -> None:
    s.held = True


def _queue_released(s: ThreadState, ev: e.QueueReleased, at: float) -> None:
    s.held = False


def _session_opening(s: ThreadState, ev: e.SessionOpening, at: float) -> None:
    s.generation = ev.generation
    s.session = SessionState(ev.session_id, ev.generation, "opening", at, idle_since=at)


def _session_launched(s: ThreadState, ev: e.SessionLaunched, at: float) -> None:
    session = _session(s)
    session.stage, session.native_id, session.resumed = "launched", ev.native_id, ev.resumed
    session.rebuild, session.missed = ev.rebuilt, list(ev.missed)


def _session_readied(s: ThreadState, ev: e.SessionReadied, at: float) -> None:
    session = _session(s)
    session.stage, session.native_id, session.idle_since = "ready", ev.native_id, at


def _binding_stored(s: ThreadState, ev: e.BindingStored, at: float) -> None:
    s.binding = BindingState(ev.native_id, ev.resumable, ev.native_bytes)


def _binding_dropped(s: ThreadState, ev: e.BindingDropped, at: float) -> None:
    s.binding = None


def _session_closing(s: ThreadState, ev: e.SessionClosing, at: float) -> None:
    session = _session(s)
    session.stage, session.closing_at, session.closing_for = "closing", at, ev.reason
    for run in s.runs.values():
        run.forced = run.forced or bool(run.stopping_at)


def _session_closed(s: ThreadState, ev: e.SessionClosed, at: float) -> None:
    _session(s).stage = "closed"
    s.refs, s.turns, s.past_turns, s.grants = {}, {}, {}, {}


def _item_started(s: ThreadState, ev: e.ItemStarted, at: float) -> None:
    s.last_item = ev.ordinal
    s.items[ev.item_id] = OpenItem(ev.item_id, ev.run_id, ev.kind, ev.attempt)
    if ev.ref:
        s.refs[ev.ref] = ev.item_id
        _forget_refs(s)
    if ev.kind != "notice":
        _touch(s, ev.run_id, at)


def _item_completed(s: ThreadState, ev: e.ItemCompleted, at: float) -> None:
    item = s.items.pop(ev.item_id)
    if item.kind != "notice":
        _touch(s, item.run_id, at)


def _forget_refs(s: ThreadState) -> None:
    excess = len(s.refs) - REFS_MAX
    if excess > 0:
        for ref in [ref for ref, item_id in s.refs.items() if item_id not in s.items][:excess]:
            del s.refs[ref]


def _request_opened(s: ThreadState, ev: e.RequestOpened, at: float) -> None:
    s.last_request += 1
    s.requests[ev.request_id] = RequestState(
        id=ev.request_id,
        ref=ev.ref,
        run_id=ev.run_id,
        item_id=ev.item_id,
        kind=ev.kind,
        generation=ev.generation,
        fingerprint=ev.fingerprint,
        grant=ev.grant,
        options=list(ev.options),
        question_ids=[q.id for q in ev.questions],
    )
    _touch(s, ev.run_id, at)


def _request_answered(s: ThreadState, ev: e.RequestAnswered, at: float) -> None:
    request = s.requests[ev.request_id]
    request.decision, request.message, request.answers = ev.decision, ev.message, dict(ev.answers)
    if ev.decision == "accept_for_session" and request.grant not in s.grants:
        s.grants[request.grant] = request.id
    _touch(s, request.run_id, at)


def _request_delivered(s: ThreadState, ev: e.RequestDelivered, at: float) -> None:
    _close_request(s, ev.request_id, "delivered", "", at)


def _request_closed(s: ThreadState, ev: e.RequestClosed, at: float) -> None:
    _close_request(s, ev.request_id, ev.state, ev.reason, at)


def _close_request(s: ThreadState, request_id: str, state: Any, reason: str, at: float) -> None:
    r = s.requests.pop(request_id)
    s.closed_requests.append(ClosedRequest(r.id, state, r.decision, reason, r.message, r.answers))
    del s.closed_requests[:-CLOSED_REQUESTS_MAX]
    _touch(s, r.run_id, at)


def _nothing(s: ThreadState, ev: e.Event, at: float) -> None:
    """Events that only readers care for."""


def _touch(s: ThreadState, run_id: str, at: float) -> None:
    """A sign of life. Notices are none: the one that says that nothing moves is written by us."""
    run = s.runs.get(run_id)
    if run is not None:
        run.active_at, run.stalled = at, False


def _session(s: ThreadState) -> SessionState:
    if s.session is None:
        raise AssertionError("a session event came before session.opening")
    return s.session


EVOLVE: Final[dict[type, Callable[[ThreadState, Any, float], None]]] = {
    e.ThreadCreated: _thread_created,
    e.ThreadTitled: _thread_titled,
    e.ContextMeasured: _nothing,
    e.RunQueued: _run_queued,
    e.RunStarting: _run_starting,
    e.RunDispatched: _run_dispatched,
    e.RunWorking: _run_working,
    e.RunActive: _run_active,
    e.RunStalled: _run_stalled,
    e.RunRequeued: _run_requeued,
    e.RunDoubtful: _run_doubtful,
    e.RunStopping: _run_stopping,
    e.RunEnded: _run_ended,
    e.QueueHeld: _queue_held,
    e.QueueReleased: _queue_released,
    e.SessionOpening: _session_opening,
    e.SessionLaunched: _session_launched,
    e.SessionReadied: _session_readied,
    e.BindingStored: _binding_stored,
    e.BindingDropped: _binding_dropped,
    e.SessionClosing: _session_closing,
    e.SessionClosed: _session_closed,
    e.ItemStarted: _item_started,
    e.ItemCompleted: _item_completed,
    e.RequestOpened: _request_opened,
    e.RequestAnswered: _request_answered,
    e.RequestDelivered: _request_delivered,
    e.RequestClosed: _request_closed,
}
