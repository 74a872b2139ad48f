"""The event store under load against the bare SQLite group commit of the same rows, and a lone commit against a sync.

The bare side executes the very statements, with the very values, that the store executed for the same commits: they
are traced on the store's own connection.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from bench.figures import Row, Samples, Target, against, in_turn
from holdfast.core import events as e
from holdfast.core.ids import inner_id, stream_of, thread_id
from holdfast.store.port import Commit, SessionRow
from holdfast.store.sqlite import SqliteStore
from holdfast.store.sqlite_core import SqliteCore, connect

PRODUCERS = 64
EACH = 60
LONE = 100
TEXT = (
    "The quick brown fox jumps over the lazy dog; nothing is lost and nothing happens twice. " * 8
)  # 700 bytes
STATE = b"s" * 1500
"""About the size of a thread's state, and of a translator's, in the middle of a turn."""

Statement = tuple[str, Any]


def measure(quick: bool) -> Iterator[Row]:
    rounds = 3 if quick else 15
    with tempfile.TemporaryDirectory(prefix="hfb-") as folder:
        root = Path(folder)
        work = [_commits(number) for number in range(PRODUCERS)]
        groups = _traced(root / "traced.db", work)
        count = iter(range(1_000_000))

        def through() -> float:
            return asyncio.run(_load(root / f"{next(count)}.db", work))

        def bare() -> float:
            return _execute(root / f"{next(count)}.db", groups)

        measured, reference = in_turn(rounds, through, bare)
        yield against(
            "store, 64 producers", "commits/s", measured, reference, "bare group commit", Target(">=", 0.5)
        )
        lone = asyncio.run(_lone(root / "lone.db", work[0][: 20 if quick else LONE]))
        synced = _synced(root / "synced", len(lone.values))
        yield against("store, a commit alone", "ms", lone, synced, "write and fdatasync of 4 KB", None)


def _commits(number: int) -> list[Commit]:
    """One thread's work: after its beginning, pairs of an item that starts and one that completes."""
    key = f"{number:020d}"
    thread = thread_id(key)
    stream, run = stream_of(thread), inner_id("run", thread, 1)
    session = SessionRow(inner_id("ses", thread, 1), 1, "scripted", "r1", 1, STATE, 0, b"{}")
    created = e.ThreadCreated(thread, "local", "/tmp", "scripted", "scripted", "ask")
    queued = e.RunQueued(run, 1, "user", TEXT, "p1", "scripted", "", "ask", "")
    starting = e.RunStarting(run, 1, "initial")
    commits = [_commit(stream, 0, [created, queued, starting], session, 0)]
    version = 3
    for pair in range(EACH // 2):
        item = inner_id("item", thread, pair + 1)
        started = e.ItemStarted(item, pair + 1, "assistant_message", run, 1, f"ref{pair}")
        commits.append(_commit(stream, version, [started], session, 2 * pair + 1))
        commits.append(
            _commit(stream, version + 1, [e.ItemCompleted(item, "completed", TEXT)], session, 2 * pair + 2)
        )
        version += 2
    return commits


def _commit(stream: str, expected: int, events: Sequence[e.Event], session: SessionRow, no: int) -> Commit:
    row = SessionRow(
        session.session,
        session.generation,
        session.kind,
        session.runner,
        session.translator_version,
        session.translator_state,
        no,
        session.launch,
    )
    return Commit(
        stream=stream,
        expected=expected,
        at=1.0e9,
        events=events,
        snapshot=STATE,
        causation="session",
        session=row,
    )


def _traced(path: Path, work: Sequence[Sequence[Commit]]) -> list[list[Statement]]:
    """The statements of each group: the first commit of every thread, then the second of every thread, and so on."""
    core = SqliteCore.open(str(path), at=0.0)
    statements: list[Statement] = []

    def trace(_cursor: apsw.Cursor, sql: str, values: Any) -> bool:
        statements.append((sql, values))
        return True

    core.db.exec_trace = trace
    groups = []
    for group in zip(*work, strict=True):
        core.commit_group(list(group))
        groups.append([s for s in statements if s[0] not in ("BEGIN IMMEDIATE", "COMMIT")])
        statements.clear()
    core.close()
    return groups


async def _load(path: Path, work: Sequence[Sequence[Commit]]) -> float:
    """Commits per second of producers that each wait for their own."""
    store = await SqliteStore.open(path)

    async def produce(commits: Sequence[Commit]) -> None:
        for commit in commits:
            await store.commit(commit)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for commits in work:
            group.create_task(produce(commits))
    took = time.perf_counter() - began
    await store.close()
    return sum(map(len, work)) / took


def _execute(path: Path, groups: Sequence[Sequence[Statement]]) -> float:
    """The same rows without anything around them."""
    SqliteCore.open(str(path), at=0.0).close()  # the schema
    db = connect(str(path))
    began = time.perf_counter()
    for statements in groups:
        db.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            db.execute(sql, values)
        db.execute("COMMIT")
    took = time.perf_counter() - began
    db.close()
    return PRODUCERS * len(groups) / took


async def _lone(path: Path, commits: Sequence[Commit]) -> Samples:
    store = await SqliteStore.open(path)
    taken = []
    for commit in commits:
        began = time.perf_counter()
        await store.commit(commit)
        taken.append(1000 * (time.perf_counter() - began))
    await store.close()
    return Samples(taken)


def _synced(path: Path, count: int) -> Samples:
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.perf_counter() - began))
    return Samples(taken)
