"""The SQLite store without threads: one connection that writes, and every read as a plain function.

Owns the file, its pragmas, the transaction around a group of commits, the checkpoints of the write-ahead log and the
reserve. It knows no event loop: `sqlite` calls it from the writer's thread, or inline for the seeded simulation. All
failures of the database leave as StoreFull or StoreBroken.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw

from holdfast import faults
from holdfast.store import migrate
from holdfast.store.port import Commit, Committed, StoreBroken, StoreConflict, StoreFull
from holdfast.store.reserve import Reserve
from holdfast.store.sqlite_append import advance, append

log = logging.getLogger("holdfast.store")

BEGIN: Final = faults.declare(
    "store.commit.begin", "a group of commits is about to be written; nothing of it is"
)
BEFORE_FSYNC: Final = faults.declare("store.commit.before_fsync", "a group is written but not yet committed")
AFTER: Final = faults.declare("store.commit.after", "a group is on disk and nobody has been told")

BUSY_MS: Final = 5000
"""How long a writer waits for another process that holds the database, such as a backup."""
CHECKPOINT_PAGES: Final = 2048
"""8 MB of write-ahead log: few checkpoints under load, and a quick recovery after a crash."""

Outcome = Committed | StoreConflict | StoreFull | StoreBroken


class _Spoiled(Exception):
    """One commit of a group cannot be done and has changed something."""


class SqliteCore:
    """`full`: a simulation's hook; a commit for which it is true fails as if the disk were full."""

    def __init__(self, db: apsw.Connection, path: str, reserve: Reserve | None) -> None:
        self.db = db
        self.path = path
        self.log_id = str(db.execute("SELECT log_id FROM log").get)
        self.full: Callable[[Commit], bool] | None = None
        self._reserve = reserve
        self._broken: StoreBroken | None = None
        self._wal_pages = 0
        self._checkpoint_at = CHECKPOINT_PAGES
        db.set_wal_hook(self._on_wal)

    @classmethod
    def open(
        cls,
        path: str,
        *,
        at: float,
        log_id: str = "",
        vfs: str | None = None,
        reserve: Reserve | None = None,
        migrations: Sequence[migrate.Migration] | None = None,
    ) -> SqliteCore:
        """Open or make the database. Raises StoreBroken. `log_id` "": a new log gets a fresh one."""
        try:
            db = connect(path, vfs=vfs)
            migrate.migrate(db, migrations or migrate.shipped(), at, path)
            db.execute(
                "INSERT INTO log (log_id, created, generation) SELECT ?, ?, 1 WHERE NOT EXISTS (SELECT 1 FROM log)",
                (log_id or secrets.token_hex(16), at),
            )
            core = cls(db, path, reserve)
        except (apsw.Error, OSError) as error:
            raise StoreBroken("internal", f"cannot open {path}: because of {_named(error)}") from error
        if reserve is not None and not reserve.restore():
            log.warning("cannot keep a reserve beside %s: because the disk is full; free some space", path)
        return core

    # Writing

    def commit_group(self, commits: Sequence[Commit]) -> list[Outcome]:
        """One transaction for the group; what one commit does wrong concerns that one alone."""
        if self._broken is not None:
            return [self._broken] * len(commits)
        if self.full is not None or (self._reserve is not None and not self._reserve.present):
            return [self._guarded(commit) for commit in commits]
        try:
            return self._transaction(commits)
        except apsw.Error as error:
            if self._is_full(error):
                return [self._alone(commit) for commit in commits]
            return [self._fault(commit, error) for commit in commits]

    def _transaction(self, commits: Sequence[Commit]) -> list[Outcome]:
        """Raises apsw.Error when the database failed and nothing of the group is in it.

        The group is tried without savepoints, which cost a third of a commit. If one of it turns out to be wrong after
        it has changed something, everything is taken back and done again with them.
        """
        if len(commits) == 1:
            return self._within([commits[0]], self._only)
        try:
            return self._within(commits, self._quick)
        except _Spoiled:
            return self._within(commits, self._isolated)

    def _within(self, commits: Sequence[Commit], one: Callable[[Commit], Outcome]) -> list[Outcome]:
        faults.point(BEGIN)
        self.db.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [one(commit) for commit in commits]
            faults.point(BEFORE_FSYNC)
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        faults.point(AFTER)
        return outcomes

    def _quick(self, commit: Commit) -> Outcome:
        version = -1
        try:
            version = advance(self.db, commit)
            return append(self.db, commit, version)
        except Exception as error:
            if isinstance(error, StoreConflict) and version < 0:
                return error
            if self._is_fatal(error):
                raise
            raise _Spoiled from error

    def _isolated(self, commit: Commit) -> Outcome:
        self.db.execute("SAVEPOINT one")
        try:
            return self._only(commit, undo="ROLLBACK TO one")
        finally:
            if self.db.in_transaction:
                self.db.execute("RELEASE one")

    def _only(self, commit: Commit, undo: str = "ROLLBACK; BEGIN IMMEDIATE") -> Outcome:
        try:
            return append(self.db, commit, advance(self.db, commit))
        except StoreConflict as conflict:
            outcome: Outcome = conflict
        except Exception as error:
            if self._is_fatal(error):
                raise
            outcome = self._fault(commit, error)
        self.db.execute(undo)
        return outcome

    def _is_fatal(self, error: Exception) -> bool:
        """The database failed, or the transaction is gone: it is not this one commit's fault."""
        return (
            isinstance(error, apsw.FullError | apsw.IOError | apsw.NoMemError) or not self.db.in_transaction
        )

    def _alone(self, commit: Commit) -> Outcome:
        """In its own transaction; a vital one may use up the reserve."""
        while True:
            try:
                return self._transaction([commit])[0]
            except apsw.Error as error:
                if not self._is_full(error):
                    return self._fault(commit, error)
                if not (commit.vital and self._reserve is not None and self._reserve.release()):
                    return _full(commit)
                log.warning("the disk is full: gave up the reserve of %s for a vital commit", self.path)

    def _guarded(self, commit: Commit) -> Outcome:
        """While the reserve is spent, what it freed is for vital commits."""
        if self.full is not None and self.full(commit):
            return _full(commit)
        if self._reserve is not None and not commit.vital and not self._reserve.restore():
            return _full(commit)
        return self._alone(commit)

    def _is_full(self, error: apsw.Error) -> bool:
        if isinstance(error, apsw.IOError):
            return self.db.system_errno in (errno.ENOSPC, errno.EDQUOT)
        return isinstance(error, apsw.FullError)

    def _fault(self, commit: Commit, error: Exception) -> StoreBroken:
        broken = StoreBroken("internal", f"cannot commit to {commit.stream}: because of {_named(error)}")
        broken.__cause__ = error
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_FSYNC:
            # What the disk has after a failed sync is unknown, and asking again may be answered with a false yes.
            self._broken = StoreBroken(
                "internal",
                f"cannot write to {self.path}: because a sync to disk failed; check the disk, then restart",
            )
        return broken

    def prune(self, receipts_before: float) -> int:
        try:
            self.db.execute("DELETE FROM receipts WHERE at < ?", (receipts_before,))
            return self.db.changes()
        except apsw.Error as error:
            if self._is_full(error):
                raise StoreFull("storage_full", "cannot prune receipts: because the disk is full") from error
            raise StoreBroken("internal", f"cannot prune receipts: because of {_named(error)}") from error

    # The write-ahead log

    def _on_wal(self, db: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def checkpoint_if_due(self) -> None:
        """Called between groups. Readers may keep part of the log busy: then the next try is 8 MB later."""
        if self._wal_pages < CHECKPOINT_PAGES:
            self._checkpoint_at = CHECKPOINT_PAGES
        elif self._wal_pages >= self._checkpoint_at:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._checkpoint_at = self._wal_pages + CHECKPOINT_PAGES

    def checkpoint_idle(self) -> None:
        """Move everything into the database and give the log's space back, without waiting for readers."""
        if not self._wal_pages:
            return
        self.db.set_busy_timeout(0)
        try:
            if self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE):
                self._wal_pages = 0
        finally:
            self.db.set_busy_timeout(BUSY_MS)

    def _checkpoint(self, mode: int) -> bool:
        try:
            self.db.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            log.warning("cannot checkpoint %s: because of %s; it is tried again", self.path, _named(error))
            return False
        return True

    def close(self) -> None:
        """The last connection that closes moves the log into the database; if it cannot, the next opening does."""
        try:
            self.db.close()
        except apsw.Error as error:
            log.warning("cannot checkpoint %s while closing: because of %s", self.path, _named(error))


def connect(path: str, *, vfs: str | None = None, reader: bool = False) -> apsw.Connection:
    """A connection with our pragmas. The file is made readable by its owner alone before SQLite sees it."""
    if path != ":memory:" and vfs is None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if Path(path).stat().st_mode & 0o077:
            os.chmod(path, 0o600)
    db = apsw.Connection(path, vfs=vfs)
    db.set_busy_timeout(BUSY_MS)
    if reader:
        db.pragma("query_only", True)
    else:
        db.pragma("journal_mode", "WAL")
        db.pragma("synchronous", "FULL")
        db.pragma("foreign_keys", True)
        db.pragma("temp_store", "MEMORY")  # savepoints then never write to a file
        if sys.platform == "darwin":
            db.pragma("fullfsync", True)
    db.wal_autocheckpoint(0)
    db.pragma("cache_size", -8000)
    return db


def _full(commit: Commit) -> StoreFull:
    return StoreFull(
        "storage_full",
        f"cannot commit to {commit.stream}: because the disk is full; free some space and try again",
    )


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
