"""What an event changes in the views: a pure mapping from event to SQL statements.

Owns every write to the tables threads, runs, items and requests. It reads nothing, so that the same log gives the
same rows, in the append's transaction and when `check` rebuilds them. Called for each event in order, then `settle`
once per commit. Statements use numbered parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from holdfast.core import events as e
from holdfast.core.ids import number_of

Value = str | int | float | bytes | None
Statement = tuple[str, Sequence[Value]]

VIEWS: Final = ("threads", "runs", "items", "requests")

RANKED_STATUS: Final = """
SELECT CASE max(CASE
    WHEN r.status = 'queued' THEN 1
    WHEN EXISTS (
      SELECT 1 FROM requests q
      WHERE q.thread_id = r.thread_id AND q.run_id = r.id
        AND q.state IN ('pending', 'answered') AND q.state = 'pending'
    ) THEN 4
    WHEN r.status = 'paused' THEN 3
    ELSE 2 END)
  WHEN 1 THEN 'queued' WHEN 2 THEN 'working' WHEN 3 THEN 'paused' WHEN 4 THEN 'waiting' END
FROM runs r WHERE r.thread_id = threads.id AND r.ended_at IS NULL
"""
"""The status that a thread has from its unfinished runs: what blocks shows before what works; null without any."""

ACTIVE: Final = "UPDATE threads SET updated_at = ?2, newest = ?3 WHERE id = ?1"
SETTLE: Final = f"""
UPDATE threads SET updated_at = ?2, newest = ?3,
  status = coalesce(({RANKED_STATUS}), CASE last_end WHEN 'failed' THEN 'failed' ELSE 'idle' END)
WHERE id = ?1
"""

CREATE_THREAD: Final = """
INSERT INTO threads (id, owner, title, project, cwd, add_dirs, agent, model, effort, mode, plan, parent,
  created_at, updated_at, newest)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13, ?14)
"""
TITLE: Final = "UPDATE threads SET title = ?2 WHERE id = ?1"
CONTEXT: Final = "UPDATE threads SET context_used = ?2, context_window = ?3 WHERE id = ?1"
HOLD: Final = "UPDATE threads SET queue_held = ?2 WHERE id = ?1"

QUEUE_RUN: Final = """
INSERT INTO runs (id, thread_id, ordinal, status, origin, command_id, agent, model, mode, effort, queued,
  queued_at, last_activity_at)
VALUES (?1, ?2, ?3, 'queued', ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)
"""
START_RUN: Final = """
UPDATE runs SET status = 'starting', attempts = ?3, started_at = coalesce(started_at, ?2),
  last_activity_at = ?2, stalled_since = NULL
WHERE id = ?1 AND ended_at IS NULL
"""
SET_RUN: Final = """
UPDATE runs SET status = ?3, last_activity_at = ?2, stalled_since = NULL WHERE id = ?1 AND ended_at IS NULL
"""
TOUCH_RUN: Final = "UPDATE runs SET last_activity_at = ?2, stalled_since = NULL WHERE id = ?1"
STALL_RUN: Final = "UPDATE runs SET stalled_since = ?2 WHERE id = ?1 AND ended_at IS NULL"
END_RUN: Final = """
UPDATE runs SET status = ?3, failure = ?4, usage = ?5, forced = ?6, ended_at = ?2,
  last_activity_at = ?2, stalled_since = NULL
WHERE id = ?1 AND ended_at IS NULL
"""
_USAGE: Final = ("input", "output", "cache_read", "cache_write", "cost_usd", "duration_ms", "api_duration_ms")
ADD_USAGE: Final = (
    "UPDATE threads SET last_end = ?3"
    + "".join(
        f", usage_{name} = CASE WHEN ?{n} IS NULL THEN usage_{name} ELSE coalesce(usage_{name}, 0) + ?{n} END"
        for n, name in enumerate(_USAGE, 4)
    )
    + " WHERE id = ?1 AND EXISTS (SELECT 1 FROM runs WHERE id = ?2 AND ended_at IS NULL)"
)

PROMPT_ITEM: Final = """
INSERT INTO items (id, thread_id, run_id, attempt, ordinal, command_id, kind, status, started, at)
SELECT ?2, thread_id, id, ?3, ?4, command_id, 'user_message', 'completed', queued, ?5 FROM runs WHERE id = ?1
"""
START_ITEM: Final = """
INSERT INTO items (id, thread_id, run_id, attempt, ordinal, parent_id, command_id, kind, status, started, at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'open', ?9, ?10)
"""
COMPLETE_ITEM: Final = "UPDATE items SET status = ?3, completed = ?4 WHERE thread_id = ?1 AND ordinal = ?2"
COMPLETE_ITEM_OF_RUN: Final = """
UPDATE runs SET last_activity_at = ?3, stalled_since = NULL
WHERE id = (SELECT run_id FROM items WHERE thread_id = ?1 AND ordinal = ?2)
"""
COMPLETE_TEXT_OF_RUN: Final = """
UPDATE runs SET last_activity_at = ?3, stalled_since = NULL,
  answer = coalesce((
    SELECT coalesce(?4, started) FROM items
    WHERE thread_id = ?1 AND ordinal = ?2 AND kind = 'assistant_message' AND parent_id IS NULL
  ), answer)
WHERE id = (SELECT run_id FROM items WHERE thread_id = ?1 AND ordinal = ?2)
"""

OPEN_REQUEST: Final = """
INSERT INTO requests (id, thread_id, run_id, opened, generation, version, state, live, asked_at)
VALUES (?1, ?2, ?3, ?4, ?5, 1, 'pending', 1, ?6)
"""
WORK_ON_REQUEST: Final = """
UPDATE runs SET status = CASE status WHEN 'starting' THEN 'working' ELSE status END,
  last_activity_at = ?2, stalled_since = NULL
WHERE id = ?1
"""
ANSWER_REQUEST: Final = """
UPDATE requests SET version = version + 1, state = 'answered', decision = ?2, decided_by = ?3, answered_at = ?4
WHERE id = ?1
"""
FINISH_REQUEST: Final = """
UPDATE requests SET version = version + 1, state = ?2, reason = ?3, live = 0 WHERE id = ?1
"""
TOUCH_RUN_OF_REQUEST: Final = """
UPDATE runs SET last_activity_at = ?2, stalled_since = NULL
WHERE id = (SELECT run_id FROM requests WHERE id = ?1)
"""
UNPLUG_REQUESTS: Final = """
UPDATE requests SET version = version + 1, live = 0
WHERE thread_id = ?1 AND state IN ('pending', 'answered') AND generation = ?2 AND live = 1
"""


class At(NamedTuple):
    """Where and when an event happened."""

    thread_id: str
    at: float
    position: int


def statements(event: e.Event, where: At) -> list[Statement]:
    """What the event changes, in order. Nothing for events that no view shows."""
    mapped = _EVENTS.get(type(event))
    return mapped(event, where) if mapped else []


def settle(where: At, events: Iterable[e.Event]) -> Statement:
    """The thread's activity, and its status if one of the commit's events can change it. `where` is the last one's."""
    changes = any(type(event) in _CHANGE_STATUS for event in events)
    return SETTLE if changes else ACTIVE, where


_CHANGE_STATUS: Final = frozenset(
    {
        e.RunQueued,
        e.RunStarting,
        e.RunWorking,
        e.RunRequeued,
        e.RunEnded,
        e.RequestOpened,
        e.RequestAnswered,
        e.RequestDelivered,
        e.RequestClosed,
    }
)


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _thread_created(ev: e.ThreadCreated, w: At) -> list[Statement]:
    parent = ev.parent or None
    who = (w.thread_id, ev.owner, ev.title, ev.project, ev.cwd, _json(ev.add_dirs))
    how = (ev.agent, ev.model, ev.effort, ev.mode, int(ev.plan), parent)
    return [(CREATE_THREAD, (*who, *how, w.at, w.position))]


def _thread_titled(ev: e.ThreadTitled, w: At) -> list[Statement]:
    return [(TITLE, (w.thread_id, ev.title))]


def _context_measured(ev: e.ContextMeasured, w: At) -> list[Statement]:
    return [(CONTEXT, (w.thread_id, ev.used, ev.window))]


def _queue_held(ev: e.QueueHeld, w: At) -> list[Statement]:
    return [(HOLD, (w.thread_id, 1))]


def _queue_released(ev: e.QueueReleased, w: At) -> list[Statement]:
    return [(HOLD, (w.thread_id, 0))]


def _run_queued(ev: e.RunQueued, w: At) -> list[Statement]:
    what = (ev.run_id, w.thread_id, ev.ordinal, ev.origin, ev.command_id or None)
    how = (ev.agent, ev.model, ev.mode, ev.effort)
    return [(QUEUE_RUN, (*what, *how, w.position, w.at))]


def _run_starting(ev: e.RunStarting, w: At) -> list[Statement]:
    start: Statement = (START_RUN, (ev.run_id, w.at, ev.attempt))
    if not ev.item_id:
        return [start]
    return [start, (PROMPT_ITEM, (ev.run_id, ev.item_id, ev.attempt, ev.item_ordinal, w.at))]


def _run_working(ev: e.RunWorking, w: At) -> list[Statement]:
    return [(SET_RUN, (ev.run_id, w.at, "working"))]


def _run_requeued(ev: e.RunRequeued, w: At) -> list[Statement]:
    return [(SET_RUN, (ev.run_id, w.at, "queued"))]


def _run_touched(ev: e.RunDispatched | e.RunActive | e.RunDoubtful | e.RunStopping, w: At) -> list[Statement]:
    return [(TOUCH_RUN, (ev.run_id, w.at))]


def _run_stalled(ev: e.RunStalled, w: At) -> list[Statement]:
    return [(STALL_RUN, (ev.run_id, ev.since))]


def _run_ended(ev: e.RunEnded, w: At) -> list[Statement]:
    counted = [getattr(ev.usage, name) if ev.usage else None for name in _USAGE]
    return [
        (ADD_USAGE, (w.thread_id, ev.run_id, ev.status, *counted)),
        (END_RUN, (ev.run_id, w.at, ev.status, _json(ev.failure), _json(ev.usage), int(ev.forced))),
    ]


def _item_started(ev: e.ItemStarted, w: At) -> list[Statement]:
    place = (ev.item_id, w.thread_id, ev.run_id or None, ev.attempt, ev.ordinal)
    what = (ev.parent_id or None, ev.command_id or None, ev.kind)
    start: Statement = (START_ITEM, (*place, *what, w.position, w.at))
    return [start, (TOUCH_RUN, (ev.run_id, w.at))] if ev.run_id else [start]


def _item_completed(ev: e.ItemCompleted, w: At) -> list[Statement]:
    key = (w.thread_id, number_of(ev.item_id))
    complete: Statement = (COMPLETE_ITEM, (*key, ev.status, w.position))
    if ev.status not in ("completed", "interrupted"):
        return [complete, (COMPLETE_ITEM_OF_RUN, (*key, w.at))]
    text = None if ev.text is None else w.position
    return [complete, (COMPLETE_TEXT_OF_RUN, (*key, w.at, text))]


def _request_opened(ev: e.RequestOpened, w: At) -> list[Statement]:
    return [
        (OPEN_REQUEST, (ev.request_id, w.thread_id, ev.run_id, w.position, ev.generation, w.at)),
        (WORK_ON_REQUEST, (ev.run_id, w.at)),
    ]


def _request_answered(ev: e.RequestAnswered, w: At) -> list[Statement]:
    return [
        (ANSWER_REQUEST, (ev.request_id, ev.decision, ev.by, w.at)),
        (TOUCH_RUN_OF_REQUEST, (ev.request_id, w.at)),
    ]


def _request_delivered(ev: e.RequestDelivered, w: At) -> list[Statement]:
    return [
        (FINISH_REQUEST, (ev.request_id, "delivered", None)),
        (TOUCH_RUN_OF_REQUEST, (ev.request_id, w.at)),
    ]


def _request_closed(ev: e.RequestClosed, w: At) -> list[Statement]:
    return [
        (FINISH_REQUEST, (ev.request_id, ev.state, ev.reason)),
        (TOUCH_RUN_OF_REQUEST, (ev.request_id, w.at)),
    ]


def _session_closed(ev: e.SessionClosed, w: At) -> list[Statement]:
    return [(UNPLUG_REQUESTS, (w.thread_id, ev.generation))]


_EVENTS: Final[dict[type, Callable[[Any, At], list[Statement]]]] = {
    e.ThreadCreated: _thread_created,
    e.ThreadTitled: _thread_titled,
    e.ContextMeasured: _context_measured,
    e.QueueHeld: _queue_held,
    e.QueueReleased: _queue_released,
    e.RunQueued: _run_queued,
    e.RunStarting: _run_starting,
    e.RunDispatched: _run_touched,
    e.RunWorking: _run_working,
    e.RunActive: _run_touched,
    e.RunStalled: _run_stalled,
    e.RunRequeued: _run_requeued,
    e.RunDoubtful: _run_touched,
    e.RunStopping: _run_touched,
    e.RunEnded: _run_ended,
    e.ItemStarted: _item_started,
    e.ItemCompleted: _item_completed,
    e.RequestOpened: _request_opened,
    e.RequestAnswered: _request_answered,
    e.RequestDelivered: _request_delivered,
    e.RequestClosed: _request_closed,
    e.SessionClosed: _session_closed,
}
