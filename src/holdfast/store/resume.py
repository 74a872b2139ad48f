"""What the engine needs to go on after a start: streams, sessions, frames and effects under way, receipts.

Reads only; the counterpart of what `sqlite_append` writes beside events and views. Each function takes a connection on
which a read transaction is open. Called by `sqlite`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from holdfast.core import events as e
from holdfast.core.ids import stream_of
from holdfast.store import reads
from holdfast.store.port import Effect, Loaded, SessionRow, StoredReceipt, WriteRow

_SESSION: Final = """
SELECT s.session, s.generation, s.kind, s.runner, s.translator_version, s.translator_state, s.frame_no, l.launch, s.open
FROM sessions s LEFT JOIN launches l ON l.session = s.session
WHERE s.stream = ?
"""

_ACTIVE: Final = """
SELECT stream FROM sessions WHERE open = 1
UNION SELECT stream FROM effects
UNION SELECT stream FROM writes
UNION SELECT 'thread:' || thread_id FROM runs WHERE ended_at IS NULL
ORDER BY 1
"""


def load(db: apsw.Connection, stream: str, whole: bool) -> Loaded:
    snapshot = None
    if not whole:
        snapshot = db.execute("SELECT version, data FROM snapshots WHERE stream = ?", (stream,)).fetchone()
    after = 0 if snapshot is None else snapshot[0]
    events = db.execute(
        "SELECT data, at FROM events WHERE stream = ? AND version > ? ORDER BY version", (stream, after)
    )
    effects = db.execute(
        "SELECT id, kind, data, generation FROM effects WHERE stream = ? ORDER BY ordinal", (stream,)
    )
    writes = db.execute("SELECT session, id, data FROM writes WHERE stream = ? ORDER BY ordinal", (stream,))
    newest = db.execute(f"{_SESSION} ORDER BY s.generation DESC LIMIT 1", (stream,)).fetchone()
    return Loaded(
        version=reads.head(db, stream),
        snapshot=None if snapshot is None else snapshot[1],
        snapshot_version=after,
        events=[(e.decode(data), at) for data, at in events],
        session=None if newest is None else _session(newest),
        effects=[Effect(*row) for row in effects],
        writes=[WriteRow(*row) for row in writes],
        drafts=reads.drafts(db, stream.removeprefix("thread:")),
    )


def sessions(db: apsw.Connection, thread_id: str) -> list[SessionRow]:
    rows = db.execute(f"{_SESSION} ORDER BY s.generation", (stream_of(thread_id),))
    return [_session(row) for row in rows]


def _session(row: Sequence[Any]) -> SessionRow:
    return SessionRow(
        session=row[0],
        generation=row[1],
        kind=row[2],
        runner=row[3],
        translator_version=row[4],
        translator_state=row[5],
        frame_no=row[6],
        launch=row[7] or b"",
        open=bool(row[8]),
    )


def active_streams(db: apsw.Connection) -> list[str]:
    return [str(stream) for (stream,) in db.execute(_ACTIVE)]


def receipt(db: apsw.Connection, owner: str, command_id: str) -> StoredReceipt | None:
    row = db.execute(
        "SELECT hash, code, detail, answer FROM receipts WHERE owner = ? AND command_id = ?",
        (owner, command_id),
    ).fetchone()
    return None if row is None else StoredReceipt(*row)
