"""Are the views what the log says? Rebuilds them from the events in a scratch database and compares row by row.

Reads the store through one connection and changes nothing. Also finds streams with gaps and a damaged file. Called by
`doctor` through `EventStore.check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import apsw
import msgspec

from holdfast.core import events as e
from holdfast.store import views

FAULTS_MAX: Final = 100
"""As many as a person reads; a damaged store has either few or all."""

_GAPS: Final = (
    "SELECT stream, count(*), max(version) FROM events GROUP BY stream HAVING count(*) <> max(version)"
)


def check(db: apsw.Connection) -> list[str]:
    """Faults in words; empty: none."""
    return list(islice(_faults(db), FAULTS_MAX))


def _faults(db: apsw.Connection) -> Iterator[str]:
    for (line,) in db.execute("PRAGMA quick_check"):
        if line != "ok":
            yield f"the file is damaged: {line}"
    for stream, count, head in db.execute(_GAPS):
        yield f"stream {stream} is at version {head}, but has {count} events"
    scratch = apsw.Connection("")  # a private file that SQLite removes
    try:
        yield from _rebuild(db, scratch)
        for table in views.VIEWS:
            yield from _differences(db, scratch, table)
    finally:
        scratch.close()


def _rebuild(db: apsw.Connection, scratch: apsw.Connection) -> Iterator[str]:
    marks = ", ".join("?" * len(views.VIEWS))
    schema = (
        f"SELECT sql FROM sqlite_schema WHERE tbl_name IN ({marks}) AND sql IS NOT NULL ORDER BY type DESC"
    )
    for (sql,) in db.execute(schema, views.VIEWS).fetchall():
        scratch.execute(str(sql))
    scratch.execute("BEGIN")
    last: dict[str, views.At] = {}
    rows = db.execute(
        "SELECT position, stream, at, data FROM events WHERE stream LIKE 'thread:%' ORDER BY position"
    )
    for position, stream, at, data in rows:
        where = views.At(stream.removeprefix("thread:"), at, position)
        last[where.thread_id] = where
        try:
            for sql, values in views.statements(e.decode(data), where):
                scratch.execute(sql, values)
        except (apsw.Error, msgspec.MsgspecError) as error:
            yield f"event {position} of {stream} cannot be applied: {error}"
    for where in last.values():
        scratch.execute(views.SETTLE, where)
    scratch.execute("COMMIT")


def _differences(db: apsw.Connection, scratch: apsw.Connection, table: str) -> Iterator[str]:
    columns = [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
    sql = f"SELECT {', '.join(columns)} FROM {table} ORDER BY id"
    for stored, rebuilt in _paired(db.execute(sql), scratch.execute(sql)):
        if rebuilt is None:
            yield f"{table}: {_identity(stored)} is there, but no event made it"
        elif stored is None:
            yield f"{table}: {_identity(rebuilt)} is missing"
        else:
            for column, has, says in zip(columns, stored, rebuilt, strict=True):
                if has != says:
                    yield f"{table}: {stored[0]}: {column} is {has!r}, but the events say {says!r}"


def _identity(row: Sequence[Any] | None) -> str:
    return str(row[0]) if row else ""


Row = Sequence[Any]


def _paired(left: Iterator[Row], right: Iterator[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    """Merge two sequences that are ordered by their first column."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            yield a, None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield None, b
            b = next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)
