"""One commit as SQL statements.

Owns every write of the log and of what rides on it: receipts, snapshots, sessions, writes, effects, drafts (views have
`views`). It opens and ends no transaction. Called by `sqlite_core` on the writer's connection: first `advance`, which
alone may refuse and then has changed nothing, then `append`.
"""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from holdfast.core import events as e
from holdfast.store import reads, views
from holdfast.store.port import Commit, Committed, Receipt, SessionRow, StoreConflict

_EVENT: Final = """
INSERT INTO events (stream, version, type, type_version, at, causation, correlation, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_SNAPSHOT: Final = """
INSERT INTO snapshots (stream, version, data) VALUES (?, ?, ?)
ON CONFLICT (stream) DO UPDATE SET version = excluded.version, data = excluded.data
"""
_RECEIPT: Final = """
INSERT INTO receipts (owner, command_id, hash, code, detail, answer, at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_FRAME: Final = """
UPDATE sessions SET runner = ?2, translator_version = ?3, translator_state = ?4, frame_no = ?5, open = ?6
WHERE session = ?1
"""
_SESSION: Final = """
INSERT INTO sessions (session, stream, generation, kind, runner, translator_version, translator_state, frame_no, open)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LAUNCH: Final = "INSERT INTO launches (session, launch) VALUES (?, ?) ON CONFLICT DO NOTHING"
_WRITE: Final = "INSERT INTO writes (stream, session, id, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_WRITE_DONE: Final = "DELETE FROM writes WHERE session = ? AND id = ?"
_WRITES_OVER: Final = "DELETE FROM writes WHERE session = ?"
_EFFECT: Final = """
INSERT INTO effects (stream, id, kind, data, generation) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_EFFECT_DONE: Final = "DELETE FROM effects WHERE stream = ? AND id = ?"
_GENERATION_DONE: Final = "DELETE FROM effects WHERE stream = ? AND generation BETWEEN 1 AND ?"
_DRAFT: Final = """
INSERT INTO drafts (item_id, "offset", text) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET text = excluded.text
"""
_DRAFTS_DONE: Final = "DELETE FROM drafts WHERE item_id = ?"


def advance(db: apsw.Connection, commit: Commit) -> int:
    """The stream's head after the commit. Raises StoreConflict, with nothing changed."""
    head = reads.head(db, commit.stream)
    if head != commit.expected:
        raise StoreConflict(
            "conflict",
            f"cannot commit to {commit.stream}: because it is at version {head}, not at {commit.expected}; "
            "read it again and decide again",
        )
    return head + len(commit.events)


def append(db: apsw.Connection, commit: Commit, version: int) -> Committed:
    """All that the commit asks for; `advance` gave its `version`. After an exception the caller rolls back;
    StoreConflict: its receipt exists."""
    if commit.events:
        _log(db, commit)
    if commit.drafts:
        _drafts(db, commit)
    if commit.snapshot is not None:
        db.execute(_SNAPSHOT, (commit.stream, version, commit.snapshot))
    if commit.session is not None:
        _session(db, commit.stream, commit.session)
    _outbox(db, commit)
    answer = b"" if commit.receipt is None else _receipt(db, commit.receipt, commit)
    return Committed(version, answer)


def _log(db: apsw.Connection, commit: Commit) -> None:
    """The events and what they change in the views; drafts of completed items go first, for their pages' sake."""
    for event in commit.events:
        if isinstance(event, e.ItemCompleted):
            db.execute(_DRAFTS_DONE, (event.item_id,))
    viewed = commit.stream.startswith("thread:")
    where = views.At(commit.stream.removeprefix("thread:"), commit.at, 0)
    head = (commit.causation, commit.correlation)
    for version, event in enumerate(commit.events, commit.expected + 1):
        what = (e.type_of(event), e.TYPE_VERSION, commit.at, *head, e.encode(event))
        db.execute(_EVENT, (commit.stream, version, *what))
        if viewed:
            where = views.At(where.thread_id, commit.at, db.last_insert_rowid())
            for sql, values in views.statements(event, where):
                db.execute(sql, values)
    if viewed:
        db.execute(*views.settle(where, commit.events))


def _drafts(db: apsw.Connection, commit: Commit) -> None:
    done = {event.item_id for event in commit.events if isinstance(event, e.ItemCompleted)}
    for draft in commit.drafts:
        if draft.item_id not in done:
            db.execute(_DRAFT, (draft.item_id, draft.offset, draft.text))


def _session(db: apsw.Connection, stream: str, row: SessionRow) -> None:
    changing = (row.runner, row.translator_version, row.translator_state, row.frame_no, int(row.open))
    db.execute(_FRAME, (row.session, *changing))
    if not db.changes():
        db.execute(_SESSION, (row.session, stream, row.generation, row.kind, *changing))
        db.execute(_LAUNCH, (row.session, row.launch))


def _outbox(db: apsw.Connection, commit: Commit) -> None:
    """What is done goes before what is new comes, so that the same id may be asked for again."""
    for session, identity in commit.writes_done:
        db.execute(_WRITE_DONE, (session, identity))
    for write in commit.writes:
        db.execute(_WRITE, (commit.stream, write.session, write.id, write.data))
    if commit.session is not None and not commit.session.open:
        db.execute(_WRITES_OVER, (commit.session.session,))
    for identity in commit.effects_done:
        db.execute(_EFFECT_DONE, (commit.stream, identity))
    if commit.drop_generation > 0:
        db.execute(_GENERATION_DONE, (commit.stream, commit.drop_generation))
    for effect in commit.effects:
        db.execute(_EFFECT, (commit.stream, effect.id, effect.kind, effect.data, effect.generation))


def _receipt(db: apsw.Connection, receipt: Receipt, commit: Commit) -> bytes:
    answer = reads.answer(db, receipt.result, receipt.result_id)
    if receipt.around is not None:
        answer = msgspec.json.encode({**receipt.around, receipt.result: msgspec.Raw(answer)})
    outcome = (receipt.content_hash, receipt.code, receipt.detail, answer, commit.at)
    db.execute(_RECEIPT, (receipt.owner, receipt.command_id, *outcome))
    if not db.changes():
        raise StoreConflict(
            "conflict",
            f"cannot commit command {receipt.command_id}: because its outcome is stored already; read its receipt",
        )
    return answer
