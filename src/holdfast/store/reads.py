"""From rows to the objects of the outer contract: every read of the views and the log.

Owns the SELECTs over the views and nothing that writes. Each function takes a connection on which a read transaction
(or the writer's own) is open, so that what one caller reads is of one moment. Called by `sqlite_core`; the writer
calls it too, for the answer that a receipt keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import apsw
import msgspec

from holdfast.core.events import ImageRef
from holdfast.core.ids import number_of, stream_of
from holdfast.store.port import Draft
from holdfast.wire import api

PAGE_MAX: Final = 1000
MAX_ORDINAL: Final = 2**62

_THREAD: Final = """
SELECT id, title, project, cwd, add_dirs, agent, model, effort, mode, plan, status, parent,
  context_used, context_window, usage_input, usage_output, usage_cache_read, usage_cache_write,
  usage_cost_usd, usage_duration_ms, usage_api_duration_ms, queue_held, owner, created_at, updated_at
FROM threads
"""

_RUN: Final = """
SELECT r.id, r.thread_id, r.ordinal, r.status, r.origin, r.command_id, r.agent, r.model, r.mode, r.effort,
  prompt.data, answer.data, r.failure, r.usage, r.attempts, r.forced,
  r.queued_at, r.started_at, r.ended_at, r.rolled_back_at, r.last_activity_at, r.stalled_since
FROM runs r
JOIN events prompt ON prompt.position = r.queued
LEFT JOIN events answer ON answer.position = r.answer
"""

_ITEM: Final = """
SELECT i.id, i.run_id, i.attempt, i.ordinal, i.parent_id, i.command_id, i.kind, i.status, i.at,
  started.data, completed.data
FROM items i
JOIN events started ON started.position = i.started
LEFT JOIN events completed ON completed.position = i.completed
"""

_REQUEST: Final = """
SELECT q.id, q.version, q.thread_id, q.run_id, q.state, q.live, q.reason, q.decision, q.decided_by,
  q.asked_at, q.answered_at, opened.data
FROM requests q
JOIN events opened ON opened.position = q.opened
"""
_PENDING: Final = "q.state IN ('pending', 'answered') AND q.state = 'pending'"


class _Text(msgspec.Struct):
    """What items and runs show of the event that their row points at; other fields are skipped."""

    text: str | None = None
    data: dict[str, Any] = {}
    images: list[ImageRef] = []


class _Opened(msgspec.Struct):
    kind: str
    lane: str
    title: str
    item_id: str = ""
    detail: str = ""
    options: list[str] = []
    questions: list[api.QuestionObject] = []


_text = msgspec.json.Decoder(_Text)
_opened = msgspec.json.Decoder(_Opened)
_dirs = msgspec.json.Decoder(list[str])
_failure = msgspec.json.Decoder(api.FailureObject)
_usage = msgspec.json.Decoder(api.UsageObject)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else api.rfc3339(seconds)


def page(limit: int) -> int:
    """A caller's limit within the bounds of a page."""
    return max(0, min(limit, PAGE_MAX))


# Threads


def owner(db: apsw.Connection, thread_id: str) -> str | None:
    found = db.execute("SELECT owner FROM threads WHERE id = ?", (thread_id,)).get
    return None if found is None else str(found)


def thread(db: apsw.Connection, thread_id: str) -> api.ThreadObject | None:
    row = db.execute(_THREAD + "WHERE id = ?", (thread_id,)).fetchone()
    return None if row is None else _thread(row)


def threads(
    db: apsw.Connection, whose: str | None, before: str, limit: int, project: str, status: str
) -> list[api.ThreadObject]:
    where, values = ["1"], dict[str, Any]()
    if before:
        where.append("newest < (SELECT newest FROM threads WHERE id = :before)")
    for column, value in (("owner", whose), ("project", project or None), ("status", status or None)):
        if value is not None:
            where.append(f"{column} = :{column}")
            values[column] = value
    if before:
        values["before"] = before
    sql = f"{_THREAD} WHERE {' AND '.join(where)} ORDER BY newest DESC LIMIT {page(limit)}"
    return [_thread(row) for row in db.execute(sql, values)]


def _thread(row: Sequence[Any]) -> api.ThreadObject:
    return api.ThreadObject(
        id=row[0],
        title=row[1],
        project=row[2],
        cwd=row[3],
        add_dirs=_dirs.decode(row[4]),
        agent=row[5],
        model=row[6],
        effort=row[7],
        mode=row[8],
        plan=bool(row[9]),
        status=row[10],
        parent=row[11],
        context=api.Context(row[12], row[13]),
        usage=api.UsageObject(*row[14:21]),
        queue_held=bool(row[21]),
        owner=row[22],
        created_at=api.rfc3339(row[23]),
        updated_at=api.rfc3339(row[24]),
    )


# Runs


def run(db: apsw.Connection, run_id: str) -> api.RunObject | None:
    row = db.execute(_RUN + "WHERE r.id = ?", (run_id,)).fetchone()
    return None if row is None else _runs(db, row[1], [row])[0]


def runs(db: apsw.Connection, thread_id: str, limit: int) -> list[api.RunObject]:
    sql = _RUN + "WHERE r.thread_id = ? ORDER BY r.ordinal DESC LIMIT ?"
    rows = db.execute(sql, (thread_id, page(limit))).fetchall()
    return _runs(db, thread_id, rows[::-1])


def _runs(db: apsw.Connection, thread_id: str, rows: Iterable[Sequence[Any]]) -> list[api.RunObject]:
    """Runs of one thread with the requests that they wait for: their own, and for a queued run those of the run
    that holds it up."""
    pending = db.execute(
        "SELECT q.id, q.run_id, r.status NOT IN ('queued') AND r.ended_at IS NULL FROM requests q "
        f"JOIN runs r ON r.id = q.run_id WHERE q.thread_id = ? AND {_PENDING} ORDER BY q.opened",
        (thread_id,),
    ).fetchall()
    found = []
    for row in rows:
        queued = row[3] == "queued"
        waits = [str(request) for request, asker, active in pending if asker == row[0] or (queued and active)]
        blocked = bool(waits) and row[3] in ("starting", "working")
        found.append(_run(row, "waiting" if blocked else row[3], waits))
    return found


def _run(row: Sequence[Any], status: str, requests: list[str]) -> api.RunObject:
    return api.RunObject(
        id=row[0],
        thread_id=row[1],
        ordinal=row[2],
        status=status,
        origin=row[4],
        command_id=row[5],
        agent=row[6],
        model=row[7],
        mode=row[8],
        effort=row[9],
        prompt=_text.decode(row[10]).text or "",
        text=(_text.decode(row[11]).text or "") if row[11] is not None else "",
        requests=requests,
        failure=None if row[12] is None else _failure.decode(row[12]),
        usage=None if row[13] is None else _usage.decode(row[13]),
        attempts=row[14],
        forced=bool(row[15]),
        queued_at=api.rfc3339(row[16]),
        started_at=_time(row[17]),
        ended_at=_time(row[18]),
        rolled_back_at=_time(row[19]),
        last_activity_at=api.rfc3339(row[20]),
        stalled_since=_time(row[21]),
    )


# Items and their drafts


def items(db: apsw.Connection, thread_id: str, before: str, limit: int) -> list[api.ItemObject]:
    try:
        end = number_of(before) if before else MAX_ORDINAL
    except ValueError:
        return []
    sql = _ITEM + "WHERE i.thread_id = ? AND i.ordinal < ? ORDER BY i.ordinal DESC LIMIT ?"
    rows = db.execute(sql, (thread_id, end, page(limit))).fetchall()
    pieces = drafts(db, thread_id) if any(row[7] == "open" for row in rows) else {}
    return [_item(row, pieces.get(row[0], "")) for row in reversed(rows)]


def _item(row: Sequence[Any], pieces: str) -> api.ItemObject:
    started = _text.decode(row[9])
    text, data = started.text, started.data
    if started.images:
        data = {"images": [msgspec.to_builtins(image) for image in started.images]}
    if row[10] is not None:
        completed = _text.decode(row[10])
        text = text if completed.text is None else completed.text
        data = {**data, **completed.data}
    return api.ItemObject(
        id=row[0],
        run_id=row[1],
        attempt=row[2],
        ordinal=row[3],
        parent_id=row[4],
        command_id=row[5],
        kind=row[6],
        status=row[7],
        text=(text or "") + pieces,
        data=data,
        at=api.rfc3339(row[8]),
    )


def drafts(db: apsw.Connection, thread_id: str) -> dict[str, str]:
    """The pieces so far of each open item that has any, joined."""
    rows = db.execute(
        "SELECT d.item_id, d.text FROM items i JOIN drafts d ON d.item_id = i.id "
        "WHERE i.thread_id = ? AND i.status = 'open' ORDER BY d.item_id, d.\"offset\"",
        (thread_id,),
    )
    pieces: dict[str, list[str]] = {}
    for item, text in rows:
        pieces.setdefault(item, []).append(text)
    return {item: "".join(texts) for item, texts in pieces.items()}


def open_texts(db: apsw.Connection, thread_id: str) -> list[Draft]:
    """The whole text so far of each open item that has any, in the order of the timeline."""
    pieces = drafts(db, thread_id)
    rows = db.execute(
        "SELECT i.id, started.data FROM items i JOIN events started ON started.position = i.started "
        "WHERE i.thread_id = ? AND i.status = 'open' ORDER BY i.ordinal",
        (thread_id,),
    )
    texts = [(item, (_text.decode(data).text or "") + pieces.get(item, "")) for item, data in rows]
    return [Draft(item, 0, text) for item, text in texts if text]


# Requests


def request(db: apsw.Connection, request_id: str) -> api.RequestObject | None:
    row = db.execute(_REQUEST + "WHERE q.id = ?", (request_id,)).fetchone()
    return None if row is None else _request(row)


def requests(
    db: apsw.Connection, whose: str | None, thread_id: str, pending: bool
) -> list[api.RequestObject]:
    """The newest page of them, oldest first."""
    where, values = ["1"], dict[str, Any]()
    if pending:
        where.append(_PENDING)
    if thread_id:
        where.append("q.thread_id = :thread")
        values["thread"] = thread_id
    if whose is not None:
        where.append("q.thread_id IN (SELECT id FROM threads WHERE owner = :owner)")
        values["owner"] = whose
    sql = f"{_REQUEST} WHERE {' AND '.join(where)} ORDER BY q.opened DESC LIMIT {PAGE_MAX}"
    return [_request(row) for row in db.execute(sql, values).fetchall()[::-1]]


def unfinished_requests(db: apsw.Connection, thread_id: str) -> list[api.RequestObject]:
    """Pending ones, and answered ones whose decision has not reached the agent."""
    sql = f"{_REQUEST} WHERE q.thread_id = ? AND q.state IN ('pending', 'answered') ORDER BY q.opened"
    return [_request(row) for row in db.execute(sql, (thread_id,))]


def _request(row: Sequence[Any]) -> api.RequestObject:
    opened = _opened.decode(row[11])
    return api.RequestObject(
        id=row[0],
        version=row[1],
        thread_id=row[2],
        run_id=row[3],
        item_id=opened.item_id or None,
        kind=opened.kind,
        state=row[4],
        live=bool(row[5]),
        lane=opened.lane,
        reason=row[6],
        title=opened.title,
        detail=opened.detail,
        options=opened.options,
        questions=opened.questions,
        decision=row[7],
        decided_by=row[8],
        asked_at=api.rfc3339(row[9]),
        answered_at=_time(row[10]),
    )


# The log


def head(db: apsw.Connection, stream: str) -> int:
    """0 if there is no such stream."""
    found = db.execute("SELECT max(version) FROM events WHERE stream = ?", (stream,)).get
    return int(found or 0)


def events(db: apsw.Connection, stream: str, after: int, limit: int) -> list[api.EventObject]:
    rows = db.execute(
        "SELECT type, version, at, data FROM events WHERE stream = ? AND version > ? ORDER BY version LIMIT ?",
        (stream, after, page(limit)),
    )
    thread_id = stream.removeprefix("thread:")
    return [
        api.EventObject(kind, thread_id, version, api.rfc3339(at), msgspec.Raw(data))
        for kind, version, at, data in rows
    ]


def snapshot(db: apsw.Connection, thread_id: str, count: int, log_id: str) -> api.Snapshot | None:
    shown = thread(db, thread_id)
    if shown is None:
        return None
    return api.Snapshot(
        thread=shown,
        runs=runs(db, thread_id, PAGE_MAX),
        items=items(db, thread_id, "", count),
        requests=unfinished_requests(db, thread_id),
        version=head(db, stream_of(thread_id)),
        log=log_id,
    )


def answer(db: apsw.Connection, result: str, result_id: str) -> bytes:
    """The JSON of the object that a receipt names, as it is now; b"" where it names none."""
    match result:
        case "thread":
            return _json(thread(db, result_id), result_id)
        case "run":
            return _json(run(db, result_id), result_id)
        case "request":
            return _json(request(db, result_id), result_id)
        case "thread_and_run":
            begun = run(db, result_id)
            whole = None if begun is None else {"thread": thread(db, begun.thread_id), "run": begun}
            return _json(whole, result_id)
        case _:
            return b""


def _json(value: object, result_id: str) -> bytes:
    if value is None:
        raise LookupError(f"the receipt's answer is to be {result_id}, which does not exist")
    return msgspec.json.encode(value)
