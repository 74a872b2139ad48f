"""What is special about the SQLite file: who may read it, how it grows, what opening it refuses, where threads cut in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from holdfast import faults
from holdfast.core import events as e
from holdfast.core.ids import inner_id
from holdfast.store import sqlite_core, sqlite_writer
from holdfast.store.migrate import Migration, migrate, shipped
from holdfast.store.port import Commit, Committed, Draft, SessionRow, StoreBroken
from holdfast.store.sqlite import SqliteStore
from holdfast.store.sqlite_core import SqliteCore
from tests.store.histories import STREAM, THREAD, begin, item, then, thread_named

MEGABYTE = 1_000_000


async def test_only_the_owner_can_read_any_of_the_files(tmp_path: Path) -> None:
    database = tmp_path / "holdfast.db"
    database.touch(0o644)
    store = await SqliteStore.open(database)
    await store.commit(begin())
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    await store.close()
    names = ("holdfast.db", "holdfast.db-wal", "holdfast.db-shm", "holdfast.reserve")
    assert modes == dict.fromkeys(names, 0o600)


async def test_a_streamed_megabyte_grows_the_file_by_three_at_most(tmp_path: Path) -> None:
    """10,000 pieces, each with its frame's session row, then the completion with the whole text."""
    database = tmp_path / "holdfast.db"
    store = await SqliteStore.open(database, inline=True)
    store.core.db.pragma("synchronous", "OFF")  # 10,000 syncs prove nothing here
    place = inner_id("item", THREAD, 1)
    await store.commit(begin())
    await store.commit(then(2, item(1)))
    store.core.checkpoint_idle()
    before = database.stat().st_size
    row = SessionRow("ses", 1, "k", "r", 1, b"{}" * 100, 0, b"launch" * 100)
    for n in range(10_000):
        session = msgspec.structs.replace(row, frame_no=n)
        piece = Draft(place, n * 100, "x" * 100)
        await store.commit(Commit(stream=STREAM, expected=3, at=3.0, drafts=[piece], session=session))
    await store.commit(then(3, e.ItemCompleted(place, "completed", "x" * MEGABYTE)))
    store.core.checkpoint_idle()
    grown = sum(f.stat().st_size for f in tmp_path.glob("holdfast.db*")) - before
    assert (await store.items(THREAD))[0].text == "x" * MEGABYTE
    await store.close()
    assert grown <= 3 * MEGABYTE
    assert grown >= MEGABYTE, "then the text is not there, or the sizes were not measured"


async def test_the_write_ahead_log_is_moved_under_load_and_when_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_core, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(sqlite_writer, "IDLE_S", 0.02)
    store = await SqliteStore.open(tmp_path / "holdfast.db")
    wal, emptied, idle = tmp_path / "holdfast.db-wal", threading.Event(), store.core.checkpoint_idle

    def noted() -> None:
        idle()
        if wal.stat().st_size == 0:
            emptied.set()

    monkeypatch.setattr(store.core, "checkpoint_idle", noted)
    await store.commit(begin())
    for version in range(2, 300):
        await store.commit(then(version, e.ThreadTitled("x" * 3000)))
        assert wal.stat().st_size < 150 * 4200
    emptied.clear()
    await store.commit(then(300, e.ThreadTitled("last")))
    assert await asyncio.to_thread(emptied.wait, 10)
    assert wal.stat().st_size == 0
    await store.close()


# Opening


def tables(db: apsw.Connection) -> set[str]:
    return {str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    yield connection
    connection.close()


def test_migrations_are_applied_once_and_in_order(db: apsw.Connection) -> None:
    first = Migration(1, "one", "CREATE TABLE a (x)")
    second = Migration(2, "two", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2)")
    migrate(db, [first], 1.0, "here")
    migrate(db, [first, second], 2.0, "here")
    migrate(db, [first, second], 3.0, "here")
    assert list(db.execute("SELECT number, at FROM migrations")) == [(1, 1.0), (2, 2.0)]
    assert list(db.execute("SELECT * FROM a")) == [(1, 2)]


def test_a_migration_that_fails_half_way_leaves_the_old_state(db: apsw.Connection) -> None:
    first = Migration(1, "one", "CREATE TABLE a (x)")
    migrate(db, [first], 1.0, "here")
    good = Migration(2, "two", "CREATE TABLE b (x)")
    bad = Migration(3, "three", "CREATE TABLE c (x); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(StoreBroken, match=r"cannot open here: because migration 3 \(three\) failed"):
        migrate(db, [first, good, bad], 2.0, "here")
    assert tables(db) == {"a", "migrations"}
    migrate(db, [first, good], 3.0, "here")
    assert tables(db) == {"a", "b", "migrations"}


def test_a_changed_migration_is_refused(db: apsw.Connection) -> None:
    migrate(db, [Migration(1, "one", "CREATE TABLE a (x)")], 1.0, "here")
    with pytest.raises(StoreBroken, match="migration 1 is not the one of this build"):
        migrate(db, [Migration(1, "one", "CREATE TABLE a (y)")], 2.0, "here")


async def test_a_database_of_a_newer_build_is_refused_and_untouched(tmp_path: Path) -> None:
    database = tmp_path / "holdfast.db"
    newer = [*shipped(), Migration(9000, "future", "CREATE TABLE future (x)")]
    SqliteCore.open(str(database), at=1.0, migrations=newer).close()
    with pytest.raises(StoreBroken, match=r"a newer Holdfast wrote it \(schema 9000"):
        await SqliteStore.open(database)
    again = SqliteCore.open(str(database), at=1.0, migrations=newer)
    assert "future" in tables(again.db)
    again.close()


def test_shipped_migrations_are_numbered_without_gaps() -> None:
    assert [m.number for m in shipped()] == list(range(1, len(shipped()) + 1))


@pytest.mark.parametrize("content", [b"this is no database, only text" * 100, None])
async def test_what_is_not_ours_is_refused_in_words(tmp_path: Path, content: bytes | None) -> None:
    database = tmp_path / "holdfast.db"
    if content is None:
        other = apsw.Connection(str(database))
        other.execute("CREATE TABLE music (title)")
        other.close()
    else:
        database.write_bytes(content)
    with pytest.raises(StoreBroken, match=r"cannot open .*: because"):
        await SqliteStore.open(database)


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreBroken, match="cannot open"):
        await SqliteStore.open(tmp_path / "nowhere" / "holdfast.db")


# Damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE runs SET status = 'working'", "status is 'working', but the events say 'queued'"),
        ("DELETE FROM items", "is missing"),
        ("UPDATE threads SET status = 'idle'", "status is 'idle', but the events say 'queued'"),
        ("UPDATE events SET version = 9 WHERE version = 3", "is at version 9, but has 3 events"),
        (
            "INSERT INTO items SELECT 'item_ghost', thread_id, '', 1, 99, NULL, NULL, '', '', 1, 1, 1.0 FROM items",
            "item_ghost is there, but no event made it",
        ),
    ],
)
async def test_check_finds_what_differs_from_the_log(damage: str, said: str) -> None:
    store = await SqliteStore.open(":memory:", inline=True)
    await store.commit(begin())
    await store.commit(then(2, item(1)))
    assert await store.check() == []
    store.core.db.execute(damage)
    found = await store.check()
    assert any(said in fault for fault in found), found
    await store.close()


# Faults and threads


@pytest.fixture
def crash() -> Iterator[list[str]]:
    """Names of points that crash at their next passage."""
    armed: list[str] = []

    def hook(name: str) -> None:
        if name in armed:
            armed.remove(name)
            raise faults.Crash(name)

    faults.set_hook(hook)
    yield armed
    faults.set_hook(None)


@pytest.mark.parametrize(
    ("point", "kept"),
    [("store.commit.begin", 2), ("store.commit.before_fsync", 2), ("store.commit.after", 3)],
)
async def test_a_crash_at_each_point_keeps_all_or_nothing(crash: list[str], point: str, kept: int) -> None:
    first = await SqliteStore.open(":memory:", inline=True)
    await first.commit(begin())
    crash.append(point)
    with pytest.raises(faults.Crash):
        await first.commit(then(2, e.ThreadTitled("x")))
    assert crash == []
    second = SqliteStore(first.core, inline=True)
    assert (await second.load(STREAM)).version == kept
    assert await second.check() == []
    assert await second.commit(then(kept, e.ThreadTitled("y"))) == Committed(kept + 1)
    await second.close()


async def test_commits_that_wait_together_are_one_group(tmp_path: Path, crash: list[str]) -> None:
    store = await SqliteStore.open(tmp_path / "holdfast.db")
    groups = 0

    def count(name: str) -> None:
        nonlocal groups
        groups += name == "store.commit.after"

    faults.set_hook(count)
    await asyncio.gather(*[store.commit(begin(thread_named(n))) for n in range(200)])
    await store.close()
    assert 1 <= groups < 50


async def test_a_cancelled_caller_spoils_nothing_and_closing_finishes_the_queue(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "holdfast.db")
    waiting = [asyncio.create_task(store.commit(begin(thread_named(n)))) for n in range(50)]
    await asyncio.sleep(0)
    waiting[10].cancel()
    await store.close()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(x) for x in done].count(Committed) == 49
    again = await SqliteStore.open(tmp_path / "holdfast.db")
    assert len(await again.threads(None, limit=100)) == 50
    with pytest.raises(StoreBroken, match="the store is closed"):
        await store.commit(begin("th_0123456789abcdef9999"))
    await again.close()
    await again.close()
