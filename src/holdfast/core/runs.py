"""The life of a run: queued, started, stopped, ended, and what becomes of it when its session is lost.

    queued -> starting -> working <-> waiting -> completed | failed | interrupted
      |          |  ^                   (waiting: working with a pending request)
      v          v  | requeued: the prompt cannot have reached the agent
    cancelled   queued

An attempt ends once; a report that comes later finds no run and changes nothing. Called by the decider and by the
rules of sessions and requests.
"""

from __future__ import annotations

from typing import Final, Literal

from holdfast.core import events as e
from holdfast.core.commands import SendMessage
from holdfast.core.deciding import Deciding
from holdfast.core.ids import inner_id, reference
from holdfast.core.reports import Failure, FailureClass, Usage
from holdfast.core.state import RunState

#: (status, event) -> status. A pair that is absent does not happen; tests walk the table.
TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    ("", "run.queued"): "queued",
    ("queued", "run.starting"): "starting",
    ("queued", "run.ended"): "ended",
    ("starting", "run.dispatched"): "starting",
    ("starting", "run.working"): "working",
    ("starting", "run.requeued"): "queued",
    ("starting", "run.doubtful"): "starting",
    ("starting", "run.stopping"): "starting",
    ("starting", "run.ended"): "ended",
    ("working", "run.working"): "working",
    ("working", "run.active"): "working",
    ("working", "run.stalled"): "working",
    ("working", "run.stopping"): "working",
    ("working", "run.ended"): "ended",
}

TITLE_CHARS: Final = 80
"""A thread without a title takes the first line of its first prompt, cut to what a list row shows."""


def title_of(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= TITLE_CHARS else first[: TITLE_CHARS - 1] + "…"


def queue_message(d: Deciding, message: SendMessage) -> str:
    """Put the message behind what runs; it starts at once when nothing does. Returns the run's id."""
    s = d.state
    ordinal = s.last_run + 1
    run_id = inner_id("run", s.id, ordinal)
    if not s.titled and (title := title_of(message.text)):
        d.emit(e.ThreadTitled(title))
    d.emit(
        e.RunQueued(
            run_id=run_id,
            ordinal=ordinal,
            origin="user",
            text=message.text,
            prompt_ref=reference(run_id),
            agent=s.agent,
            model=s.model,
            mode=s.mode,
            effort=s.effort,
            command_id=message.command_id,
            images=message.images,
        )
    )
    if s.held:
        d.emit(e.QueueReleased("message"))
    start_next(d)
    return run_id


def start_next(d: Deciding) -> None:
    """Start the head of the queue if nothing is active and the queue is not held."""
    s = d.state
    if s.active or s.held or not s.queue:
        return
    run = s.runs[s.queue[0]]
    kind: e.AttemptKind = "initial" if run.attempt == 0 else "recovery"
    first = not run.item_id
    ordinal = s.last_item + 1 if first else 0
    item_id = inner_id("item", s.id, ordinal) if first else ""
    d.emit(e.RunStarting(run.id, run.attempt + 1, kind, item_id, ordinal))
    ensure_session(d)


def ensure_session(d: Deciding) -> None:
    """A session is opening or open; one that closes now is followed by a new one when it has ended."""
    s = d.state
    if s.session is not None and s.session.stage != "closed":
        return
    generation = s.generation + 1
    d.emit(
        e.SessionOpening(
            session_id=inner_id("ses", s.id, generation),
            generation=generation,
            agent=s.agent,
            kind=s.kind,
            model=s.model,
            effort=s.effort,
            mode=s.mode,
            plan=s.plan,
        )
    )


def start_unprompted(d: Deciding, turn: str) -> RunState:
    """The agent began a turn by itself: a run of its own, never charged to another."""
    s = d.state
    ordinal = s.last_run + 1
    run_id = inner_id("run", s.id, ordinal)
    d.emit(
        e.RunQueued(
            run_id=run_id,
            ordinal=ordinal,
            origin="agent",
            text="",
            prompt_ref="",
            agent=s.agent,
            model=s.model,
            mode=s.mode,
            effort=s.effort,
        )
    )
    d.emit(e.RunStarting(run_id, 1, "initial"))
    d.emit(e.RunWorking(run_id, 1, turn))
    return s.runs[run_id]


def see(d: Deciding, run: RunState, turn: str = "") -> None:
    """The agent shows that it has the prompt."""
    if run.dispatch != "seen" or (turn and run.turn != turn):
        d.emit(e.RunWorking(run.id, run.attempt, turn))


def settle(d: Deciding, run_id: str) -> None:
    """A run that exists only because something was asked outside of every turn has no turn that could end it: it
    ends when nothing of it is open any more."""
    s = d.state
    run = s.runs.get(run_id)
    if run is None or run.origin != "agent" or run.turn:
        return
    if any(q.run_id == run_id for q in s.requests.values()) or any(
        i.run_id == run_id for i in s.items.values()
    ):
        return
    finish(d, run, "interrupted" if run.stopping_at else "completed")


def finish(
    d: Deciding,
    run: RunState,
    status: Literal["completed", "failed", "interrupted", "cancelled"],
    failure: Failure | None = None,
    usage: Usage | None = None,
    *,
    forced: bool = False,
) -> None:
    """Text and items closed, requests expired, then terminal: in one decision. Then the next run starts, or the
    queue is held after a failure. A run that was stopped has not failed, whatever its end looked like, except where
    it was stopped because it failed."""
    if status == "interrupted" or (status == "failed" and run.stopping_at):
        status, failure = ("interrupted", None) if run.ending is None else ("failed", run.ending)
    for item in [i for i in d.state.items.values() if i.run_id == run.id]:
        if item.kind == "subagent" and status == "completed":
            continue  # background work outlives its turn; it closes by itself or with the session
        text_kind = item.kind in ("assistant_message", "reasoning")
        d.emit(
            e.ItemCompleted(item.id, "completed" if text_kind and status == "completed" else "interrupted")
        )
    for request in [r for r in d.state.requests.values() if r.run_id == run.id]:
        d.emit(e.RequestClosed(request.id, "expired", "run_ended"))
    forced = (forced or run.forced) and status != "completed"
    d.emit(e.RunEnded(run.id, run.attempt, status, failure, usage, forced))
    asked_for = (
        run.origin != "agent"
    )  # what the agent began by itself is no reason to hold what people asked for
    if status == "failed" and asked_for and d.state.queue and not d.state.held:
        d.emit(e.QueueHeld(run.id))
    start_next(d)


def requeue(d: Deciding, run: RunState, reason: str, failure_class: FailureClass) -> None:
    """The prompt cannot have reached the agent: try again, a bounded number of times."""
    if run.restarts >= d.limits.restarts_max:
        text = f"cannot start the run: because {reason}, {run.restarts + 1} times in a row; send it again"
        finish(d, run, "failed", Failure(failure_class, text))
        return
    d.emit(e.RunRequeued(run.id, run.attempt, reason))
    start_next(d)


def stop(d: Deciding, run: RunState, by: str, failure: Failure | None = None) -> None:
    """Ask for the end. Pending requests are withdrawn; the agent gets an interrupt, and the ladder follows by time."""
    s = d.state
    if run.status == "queued":
        finish(d, run, "cancelled")
        if s.held and not s.queue:
            d.emit(e.QueueReleased(by))
        return
    if run.stopping_at:
        return
    d.emit(e.RunStopping(run.id, by, failure))
    for request in [r for r in s.requests.values() if r.run_id == run.id and r.decision is None]:
        d.emit(e.RequestClosed(request.id, "withdrawn", "run_ended"))
    never_sent = run.dispatch == "unsent" and (s.session is None or s.session.stage != "ready")
    if run.doubt is not None or never_sent:
        finish(d, run, "interrupted")
